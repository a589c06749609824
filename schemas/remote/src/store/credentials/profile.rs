//! Profiles in the files of the AWS CLI.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::PathBuf;

use crate::environment::variable;

/// Settings of a profile.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Profile {
    pub(super) keys: Option<Keys>,
    pub(super) region: Option<String>,
    pub(super) endpoint: Option<String>,
    /// Reason why the profile's credentials cannot be used, with a remedy.
    pub(super) unsupported: Option<String>,
}

/// Keys of an account.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Keys {
    pub(super) id: String,
    pub(super) secret: String,
    pub(super) token: Option<String>,
}

/// Sections of a file, each with its settings.
type Sections = BTreeMap<String, BTreeMap<String, String>>;

impl Profile {
    /// Reads the profile `AWS_PROFILE`, or `default`.
    ///
    /// # Errors
    /// The reason, if a file cannot be read or has no profile of the given name.
    pub(super) fn read() -> Result<Self, String> {
        let given = variable("AWS_PROFILE").or_else(|| variable("AWS_DEFAULT_PROFILE"));
        let credentials = sections("AWS_SHARED_CREDENTIALS_FILE", "credentials")?;
        let config = sections("AWS_CONFIG_FILE", "config")?;
        Self::find(given.as_deref(), &credentials, &config)
    }

    fn find(given: Option<&str>, credentials: &Sections, config: &Sections) -> Result<Self, String> {
        let name = given.unwrap_or("default");
        // In the file `config`, the name of a section has a prefix, except for the default profile.
        let sections = [credentials.get(name), config.get(&format!("profile {name}")), config.get(name)];
        if given.is_some() && sections.iter().all(Option::is_none) {
            return Err(format!("there is no profile `{name}`, which AWS_PROFILE names"));
        }
        let value = |key: &str| sections.iter().flatten().find_map(|section| section.get(key).cloned());
        let keys = match (value("aws_access_key_id"), value("aws_secret_access_key")) {
            (Some(id), Some(secret)) => Some(Keys { id, secret, token: value("aws_session_token") }),
            _ => None,
        };
        let dynamic = ["sso_session", "sso_start_url", "credential_process", "role_arn"];
        let found = dynamic.into_iter().find(|key| keys.is_none() && value(key).is_some());
        let unsupported = found.map(|key| {
            format!(
                "the profile `{name}` has no keys but {key}; run `eval \"$(aws configure export-credentials --profile {name} --format \
                 env)\"` first"
            )
        });
        Ok(Self { keys, region: value("region"), endpoint: value("endpoint_url"), unsupported })
    }
}

fn sections(variable_name: &str, file: &str) -> Result<Sections, String> {
    let home = || Some(PathBuf::from(variable("HOME")?).join(".aws").join(file));
    let Some(path) = variable(variable_name).map(PathBuf::from).or_else(home) else { return Ok(Sections::new()) };
    match fs::read_to_string(&path) {
        Ok(text) => Ok(parse(&text)),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(Sections::new()),
        Err(error) => Err(format!("cannot read {}: {error}", path.display())),
    }
}

/// Parses lines of `[section]` and `key = value`.
fn parse(text: &str) -> Sections {
    let mut sections = Sections::new();
    let mut current = None;
    for line in text.lines() {
        // Indented lines belong to a nested setting, of which none is of interest.
        if line.starts_with([' ', '\t']) || line.starts_with(['#', ';']) {
            continue;
        }
        let line = line.trim();
        if let Some(name) = line.strip_prefix('[').and_then(|line| line.split_once(']')).map(|(name, _)| name.trim()) {
            let name = name.split_whitespace().collect::<Vec<_>>().join(" ");
            current = Some(sections.entry(name).or_default());
        } else if let (Some(section), Some((key, value))) = (&mut current, line.split_once('=')) {
            section.insert(key.trim().to_owned(), value.trim().to_owned());
        }
    }
    sections
}

#[cfg(test)]
mod tests {
    use super::*;

    const CREDENTIALS: &str = "\
# a comment
[default]
aws_access_key_id = one
aws_secret_access_key=secret=1

[other]
aws_access_key_id=two
aws_secret_access_key=secret2
aws_session_token=token
";
    const CONFIG: &str = "\
[default]
region = eu-central-1
s3 =
  region = no
[profile  other]
endpoint_url = http://localhost:9000
[profile work]
sso_session = corp
";

    fn found(name: Option<&str>) -> Result<Profile, String> {
        Profile::find(name, &parse(CREDENTIALS), &parse(CONFIG))
    }

    #[test]
    fn profiles_are_found_in_both_files() {
        let keys = |id: &str, secret: &str, token: Option<&str>| {
            Some(Keys { id: id.to_owned(), secret: secret.to_owned(), token: token.map(str::to_owned) })
        };
        let default = found(None).expect("found");
        assert_eq!((default.keys, default.region.as_deref()), (keys("one", "secret=1", None), Some("eu-central-1")));
        let other = found(Some("other")).expect("found");
        assert_eq!(other.keys, keys("two", "secret2", Some("token")));
        assert_eq!((other.endpoint.as_deref(), other.region), (Some("http://localhost:9000"), None));
    }

    #[test]
    fn profiles_without_keys_are_explained() {
        let work = found(Some("work")).expect("found");
        assert!(work.unsupported.is_some_and(|reason| reason.contains("aws configure export-credentials --profile work")));
        assert!(found(Some("none")).is_err_and(|reason| reason.contains("there is no profile `none`")));
        assert_eq!(Profile::find(None, &Sections::new(), &Sections::new()), Ok(Profile::default()));
    }
}
