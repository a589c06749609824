//! Settings of S3, Google Cloud Storage and Azure Blob Storage: the environment variables and files that each cloud's own tools read.

mod profile;

use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use object_store::gcp::{GoogleCloudStorageBuilder, GoogleConfigKey};

use self::profile::Profile;
use super::failure::credentials;
use crate::RemoteError;
use crate::environment::{variable, variables};
use crate::location::Location;

/// Address at which a machine of Amazon's asks for credentials of its own.
const METADATA: &str = "169.254.169.254:80";
/// Time to wait for it: it is the next hop or does not exist.
const METADATA_TIMEOUT: Duration = Duration::from_millis(1500);

/// Returns a builder for a bucket of S3, or of a server that speaks its protocol.
///
/// Credentials are the variables `AWS_*`; else the profile `AWS_PROFILE` or `default` of the files of the AWS CLI; else those of the
/// machine or container.
pub(crate) fn s3(location: &Location, bucket: &str) -> Result<AmazonS3Builder, RemoteError> {
    let mut builder = AmazonS3Builder::new().with_bucket_name(bucket).with_allow_http(true);
    for (name, value) in variables("AWS_") {
        if let Ok(key) = name.to_ascii_lowercase().parse::<AmazonS3ConfigKey>() {
            builder = builder.with_config(key, value);
        }
    }
    let given = |key: AmazonS3ConfigKey| builder.get_config_value(&key).filter(|value| !value.is_empty());
    let has_keys = given(AmazonS3ConfigKey::AccessKeyId).is_some() || given(AmazonS3ConfigKey::SecretAccessKey).is_some();
    let is_signed = given(AmazonS3ConfigKey::SkipSignature).is_none_or(|skip| skip == "false");
    let has_token = given(AmazonS3ConfigKey::WebIdentityTokenFile).is_some();
    let is_in_container = given(AmazonS3ConfigKey::ContainerCredentialsRelativeUri).is_some()
        || given(AmazonS3ConfigKey::ContainerCredentialsFullUri).is_some();
    let has_region = given(AmazonS3ConfigKey::Region).is_some();
    let default_region = given(AmazonS3ConfigKey::DefaultRegion);
    let has_endpoint = given(AmazonS3ConfigKey::Endpoint).is_some() || given(AmazonS3ConfigKey::S3Endpoint).is_some();
    let other_metadata = given(AmazonS3ConfigKey::MetadataEndpoint).is_some();

    let refuse = |reason| RemoteError::Credentials { url: location.to_string(), reason, remedy: credentials(location) };
    let profile = Profile::read().map_err(refuse)?;
    match profile.region.or(default_region).filter(|_| !has_region) {
        Some(region) => builder = builder.with_region(region),
        None if !has_region => tracing::debug!("no region is given; assuming us-east-1"),
        None => {}
    }
    if let Some(endpoint) = profile.endpoint.filter(|_| !has_endpoint) {
        builder = builder.with_endpoint(endpoint);
    }
    if has_keys || !is_signed || has_token {
        return Ok(builder);
    }
    if let Some(keys) = profile.keys {
        builder = builder.with_access_key_id(keys.id).with_secret_access_key(keys.secret);
        return Ok(match keys.token {
            Some(token) => builder.with_token(token),
            None => builder,
        });
    }
    if let Some(reason) = profile.unsupported {
        return Err(refuse(reason));
    }
    if !is_in_container && !other_metadata && !answers(METADATA) {
        return Err(refuse("there are no keys in the environment or in a profile, and this machine has no role".to_owned()));
    }
    Ok(builder)
}

fn answers(address: &str) -> bool {
    let addresses = address.to_socket_addrs().into_iter().flatten();
    addresses.take(1).any(|address| TcpStream::connect_timeout(&address, METADATA_TIMEOUT).is_ok())
}

/// Returns a builder for a bucket of Google Cloud Storage. The variables `GOOGLE_*` and the file of `gcloud auth application-default
/// login` are read, and `STORAGE_EMULATOR_HOST`.
pub(crate) fn google(bucket: &str) -> GoogleCloudStorageBuilder {
    let mut builder = GoogleCloudStorageBuilder::new().with_bucket_name(bucket);
    for (name, value) in variables("GOOGLE_") {
        if let Ok(key) = name.to_ascii_lowercase().parse::<GoogleConfigKey>() {
            builder = builder.with_config(key, value);
        }
    }
    match variable("STORAGE_EMULATOR_HOST") {
        Some(host) => {
            let url = if host.contains("://") { host } else { format!("http://{host}") };
            // An emulator needs no keys; this is how the crate is told so.
            let account = serde_json::json!({
                "gcs_base_url": url, "disable_oauth": true, "client_email": "", "private_key": "", "private_key_id": ""
            });
            builder.with_service_account_key(account.to_string())
        }
        None => builder,
    }
}

/// Returns a builder for a container of Azure Blob Storage. The variables `AZURE_*` are read, with the names of the Azure CLI and of
/// Azure's libraries, else the login of the Azure CLI.
pub(crate) fn azure(container: &str) -> MicrosoftAzureBuilder {
    let mut builder = MicrosoftAzureBuilder::new().with_container_name(container).with_allow_http(true);
    if let Some(text) = variable("AZURE_STORAGE_CONNECTION_STRING") {
        for (key, value) in connection_string(&text) {
            builder = builder.with_config(key, value);
        }
    }
    for (name, value) in variables("AZURE_") {
        let key = match name.as_str() {
            "AZURE_STORAGE_ACCOUNT" => Ok(AzureConfigKey::AccountName),
            "AZURE_STORAGE_KEY" => Ok(AzureConfigKey::AccessKey),
            _ => name.to_ascii_lowercase().parse(),
        };
        if let Ok(key) = key {
            builder = builder.with_config(key, value);
        }
    }
    let has = |key: AzureConfigKey| builder.get_config_value(&key).is_some_and(|value| !value.is_empty() && value != "false");
    let others = [
        AzureConfigKey::AccessKey,
        AzureConfigKey::SasKey,
        AzureConfigKey::Token,
        AzureConfigKey::ClientSecret,
        AzureConfigKey::FederatedTokenFile,
        AzureConfigKey::MsiEndpoint,
        AzureConfigKey::UseEmulator,
        AzureConfigKey::SkipSignature,
    ];
    let has_cli = || {
        let path = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&path).any(|folder| folder.join("az").is_file())
    };
    if !others.into_iter().any(has) && has_cli() {
        builder = builder.with_use_azure_cli(true);
    }
    builder
}

/// Returns the settings in a connection string, as Azure's portal shows it.
fn connection_string(text: &str) -> impl Iterator<Item = (AzureConfigKey, String)> {
    text.split(';').filter_map(|part| {
        let (name, value) = part.split_once('=')?;
        let key = match name.trim() {
            "AccountName" => AzureConfigKey::AccountName,
            "AccountKey" => AzureConfigKey::AccessKey,
            "SharedAccessSignature" => AzureConfigKey::SasKey,
            "BlobEndpoint" => AzureConfigKey::Endpoint,
            _ => return None,
        };
        Some((key, value.trim().to_owned()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connection_strings_are_read() {
        let text = "DefaultEndpointsProtocol=https;AccountName=one;AccountKey=a2V5==;EndpointSuffix=core.windows.net";
        let found: Vec<_> = connection_string(text).map(|(_, value)| value).collect();
        assert_eq!(found, ["one", "a2V5=="]);
    }
}
