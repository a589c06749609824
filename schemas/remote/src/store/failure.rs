//! Failures of a store as one sentence, with a remedy.

use std::error::Error;

use crate::RemoteError;
use crate::location::{Location, Service};

impl RemoteError {
    /// Converts an error of a store.
    pub(crate) fn of_store(doing: &'static str, location: &Location, error: &object_store::Error) -> Self {
        use object_store::Error as E;
        let (url, reason) = (location.to_string(), reason(error));
        match error {
            E::NotFound { .. } => Self::Missing { url, reason },
            E::PermissionDenied { .. } | E::Unauthenticated { .. } => {
                Self::Denied { url, reason, remedy: credentials(location) }
            }
            E::Precondition { .. } | E::NotModified { .. } => Self::Changed { url },
            // Stores of keys in the wrong form, refused by their own tools with the same codes.
            _ if DENIED.iter().any(|code| reason.contains(code)) => Self::Denied { url, reason, remedy: credentials(location) },
            _ if METADATA_HOSTS.iter().any(|host| mentions(error, host)) => {
                let reason = format!("there are none in the environment, and this machine has none of its own ({reason})");
                Self::Credentials { url, reason, remedy: credentials(location) }
            }
            _ => Self::Request { doing, url, reason, remedy: connection(location) },
        }
    }
}

/// Hosts at which a machine in a cloud asks for credentials of its own.
const METADATA_HOSTS: [&str; 3] = ["169.254.169.254", "169.254.170.2", "metadata.google.internal"];

/// Codes of refused requests that come with another status than 401 and 403.
const DENIED: [&str; 4] = ["InvalidAccessKeyId", "AuthorizationHeaderMalformed", "ExpiredToken", "InvalidToken"];

/// Maximum number of characters of a server's answer in a message.
const SHOWN_CHARACTERS: usize = 240;

/// Returns true if one of the errors of a chain contains a text.
fn mentions(error: &dyn Error, text: &str) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        if error.to_string().contains(text) {
            return true;
        }
        next = error.source();
    }
    false
}

/// Returns the innermost error of a chain in short: the code and message of a server's answer, if it is XML.
pub(crate) fn reason(error: &dyn Error) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    let text = innermost.to_string();
    let element = |name: &str| {
        let (_, rest) = text.split_once(&format!("<{name}>"))?;
        Some(rest.split_once("</")?.0.trim())
    };
    let found = match (element("Code"), element("Message")) {
        (Some(code), Some(message)) => format!("{code}: {message}"),
        (Some(code), None) => code.to_owned(),
        _ => text.trim().to_owned(),
    };
    // The query of a URL may be a signature.
    let words = found.lines().next().unwrap_or_default().split(' ');
    let words = words.map(|word| if word.contains("://") { word.split('?').next().unwrap_or_default() } else { word });
    let line: String = words.collect::<Vec<_>>().join(" ").chars().take(SHOWN_CHARACTERS).collect();
    line.trim_end_matches(['.', ' ', ':']).to_owned()
}

/// Sources of the credentials of a service.
pub(crate) fn credentials(location: &Location) -> &'static str {
    match &location.service {
        Service::S3 { .. } => {
            "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE for a profile in ~/.aws/credentials, or \
             AWS_SKIP_SIGNATURE=true for a public bucket; AWS_ENDPOINT_URL and AWS_REGION choose another server"
        }
        Service::Google { .. } => {
            "set GOOGLE_APPLICATION_CREDENTIALS to the path of a key, run `gcloud auth application-default login`, or set \
             GOOGLE_SKIP_SIGNATURE=true for a public bucket"
        }
        Service::Azure { .. } => {
            "set AZURE_STORAGE_ACCOUNT and AZURE_STORAGE_KEY, AZURE_STORAGE_SAS_TOKEN or AZURE_STORAGE_CONNECTION_STRING, or run \
             `az login`"
        }
        Service::Http { .. } => "use a signed URL, or download the file and give its path",
        Service::Hub(_) => {
            "check the name; for private and gated repositories set HF_TOKEN, or run `hf auth login`, with a token that may read them"
        }
    }
}

/// Things to check if a service cannot be reached.
fn connection(location: &Location) -> &'static str {
    match &location.service {
        Service::S3 { .. } => "check the network, AWS_REGION and AWS_ENDPOINT_URL, and run the command again",
        Service::Google { .. } => "check the network, and run the command again",
        Service::Azure { .. } => {
            "check the network, AZURE_STORAGE_ACCOUNT and AZURE_STORAGE_ENDPOINT, and run the command again"
        }
        Service::Http { .. } => "check the network and the URL, and run the command again",
        Service::Hub(_) => "check the network and HF_ENDPOINT, and run the command again",
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[test]
    fn answers_are_shortened() {
        let error = |text: &str| io::Error::other(text.to_owned());
        let xml = "Server returned 403: <?xml?>\n<Error><Code>AccessDenied</Code><Message>No access.</Message></Error>";
        assert_eq!(reason(&error(xml)), "AccessDenied: No access");
        assert_eq!(reason(&error("refused\nmore")), "refused");
        assert_eq!(reason(&error("no redirect for (https://host/x?sig=secret) now?")), "no redirect for (https://host/x now?");
        assert_eq!(reason(&error(&"x".repeat(1000))).len(), SHOWN_CHARACTERS);
    }
}
