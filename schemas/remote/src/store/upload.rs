//! Uploads. A file appears in the store when it is complete: small ones are one request, large ones are sent in parts.

use std::fs::File;
use std::io::{self, Read};
use std::sync::Arc;

use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutMultipartOptions, PutPayload, WriteMultipart};

use super::runtime::block_on;
use crate::RemoteError;
use crate::location::Location;

/// Size of a part, and maximum size of a file that is sent with one request.
const PART_BYTES: u64 = 8 << 20;
/// Maximum number of parts of a file. The limit of S3 is 10 000.
const MAX_PARTS: u64 = 9000;
/// Number of parts that are sent at the same time.
const PARALLEL: usize = 4;

/// Sends the content of an open file, and calls `sent` with the number of bytes of each part that is on its way.
pub(crate) fn upload(
    objects: &Arc<dyn ObjectStore>,
    path: &Path,
    location: &Location,
    file: &mut File,
    sent: &dyn Fn(u64),
) -> Result<u64, UploadError> {
    let failed = |error| UploadError::Store(RemoteError::of_store("write", location, &error));
    let bytes = file.metadata()?.len();
    if bytes <= PART_BYTES {
        let mut content = Vec::with_capacity(bytes as usize);
        file.read_to_end(&mut content)?;
        let (bytes, payload) = (content.len() as u64, PutPayload::from(content));
        block_on(objects.put(path, payload))?.map_err(failed)?;
        sent(bytes);
        return Ok(bytes);
    }
    let part_bytes = PART_BYTES.max(bytes.div_ceil(MAX_PARTS));
    let upload = block_on(objects.put_multipart_opts(path, PutMultipartOptions::default()))?.map_err(failed)?;
    let mut upload = WriteMultipart::new_with_chunk_size(upload, part_bytes as usize);
    match send(&mut upload, file, part_bytes, sent) {
        Ok(total) => {
            block_on(upload.finish())?.map_err(failed)?;
            Ok(total)
        }
        Err(error) => {
            // The first error is reported. Stores remove parts of abandoned uploads by a rule of the bucket.
            if let Ok(Err(error)) = block_on(upload.abort()) {
                tracing::debug!("{location}: the upload cannot be aborted: {error}");
            }
            Err(match error {
                SendError::Store(error) => failed(error),
                SendError::Other(error) => error,
            })
        }
    }
}

/// Error of an upload: of the local file or of the store.
#[derive(Debug)]
pub(crate) enum UploadError {
    File(io::Error),
    Store(RemoteError),
}

impl From<io::Error> for UploadError {
    fn from(error: io::Error) -> Self {
        Self::File(error)
    }
}

impl From<RemoteError> for UploadError {
    fn from(error: RemoteError) -> Self {
        Self::Store(error)
    }
}

enum SendError {
    Store(object_store::Error),
    Other(UploadError),
}

fn send(upload: &mut WriteMultipart, file: &mut File, part_bytes: u64, sent: &dyn Fn(u64)) -> Result<u64, SendError> {
    let mut total = 0;
    loop {
        let mut part = Vec::with_capacity(part_bytes as usize);
        let read = file.by_ref().take(part_bytes).read_to_end(&mut part).map_err(|error| SendError::Other(error.into()))?;
        if read == 0 {
            return Ok(total);
        }
        let put = async {
            upload.wait_for_capacity(PARALLEL).await?;
            upload.put(part.into());
            Ok(())
        };
        block_on(put).map_err(|error| SendError::Other(error.into()))?.map_err(SendError::Store)?;
        total += read as u64;
        sent(read as u64);
    }
}
