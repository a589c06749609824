//! Archives of raw files: zip, and tar with or without compression.
//!
//! Members are read as streams; nothing is extracted to disk. Archives with paths outside of the archive, links or decompression
//! bombs are rejected as a whole.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::{Component, Path};

use glm_support::files::bomb::{bomb, is_bomb};
use zip::ZipArchive;

use super::unpack;

/// Maximum number of members.
const MAX_MEMBERS: usize = 1_000_000;

/// Kind of archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Zip,
    Tar,
}

impl Kind {
    /// Returns the kind of an archive by its extension.
    pub(super) fn of(name: &str) -> Option<Self> {
        let name = name.to_ascii_lowercase();
        let extensions = [".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.zst"];
        if name.ends_with(".zip") {
            return Some(Self::Zip);
        }
        extensions.iter().any(|extension| name.ends_with(extension)).then_some(Self::Tar)
    }
}

/// File in an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Member {
    /// Path in the archive, with forward slashes.
    pub(super) name: String,
    /// Index of the member.
    pub(super) index: usize,
    /// Uncompressed size.
    pub(super) bytes: u64,
}

/// Lists the files of an archive, in its order.
///
/// # Errors
/// If the archive cannot be read, is damaged or is rejected.
pub(super) fn members(path: &Path, kind: Kind) -> io::Result<Vec<Member>> {
    let file = File::open(path)?;
    let mut found = Vec::new();
    match kind {
        Kind::Zip => {
            let compressed = file.metadata()?.len();
            let mut archive = open_zip(file)?;
            if archive.len() > MAX_MEMBERS {
                return Err(rejected(format!("it has more than {MAX_MEMBERS} members")));
            }
            for index in 0..archive.len() {
                let member = archive.by_index_raw(index).map_err(zip_error)?;
                let (name, bytes) = (member.name().map_err(zip_error)?.into_owned(), member.size());
                check_path(&name)?;
                if member.is_symlink() {
                    return Err(rejected(format!("`{name}` is a symbolic link")));
                }
                if is_bomb(bytes, compressed) {
                    return Err(bomb());
                }
                if !member.is_dir() {
                    found.push(Member { name, index, bytes });
                }
            }
        }
        Kind::Tar => {
            let mut archive = tar::Archive::new(unpack::unpacked(file)?);
            for (index, member) in archive.entries()?.enumerate() {
                let member = member?;
                let name = String::from_utf8_lossy(&member.path_bytes()).into_owned();
                check_path(&name)?;
                let kind = member.header().entry_type();
                if kind.is_symlink() || kind.is_hard_link() {
                    return Err(rejected(format!("`{name}` is a link")));
                }
                if index >= MAX_MEMBERS {
                    return Err(rejected(format!("it has more than {MAX_MEMBERS} members")));
                }
                if kind.is_file() {
                    found.push(Member { name, index, bytes: member.size() });
                }
            }
        }
    }
    Ok(found)
}

/// Passes members to `consume`, in the order of ascending `indices`, until it returns false.
///
/// # Errors
/// If the archive cannot be read or `consume` fails.
pub(super) fn read(
    path: &Path,
    kind: Kind,
    indices: &[usize],
    consume: &mut dyn FnMut(usize, &mut dyn Read) -> io::Result<bool>,
) -> io::Result<()> {
    let file = File::open(path)?;
    match kind {
        Kind::Zip => {
            let mut archive = open_zip(file)?;
            for (number, &index) in indices.iter().enumerate() {
                let mut member = archive.by_index(index).map_err(zip_error)?;
                let size = member.size();
                if is_bomb(size, member.compressed_size()) {
                    return Err(bomb());
                }
                // Limits a member to its declared size; the archive's checksum detects other content.
                if !consume(number, &mut Read::by_ref(&mut member).take(size + 1))? {
                    return Ok(());
                }
            }
        }
        Kind::Tar => {
            let mut archive = tar::Archive::new(unpack::unpacked(file)?);
            let mut wanted = indices.iter().copied().enumerate().peekable();
            for (index, member) in archive.entries()?.enumerate() {
                let Some(&(number, next)) = wanted.peek() else { break };
                let mut member = member?;
                if index < next {
                    continue;
                }
                wanted.next();
                let declared = member.size();
                let mut counted = Counted { file: &mut member, bytes: 0 };
                if !consume(number, &mut counted)? {
                    return Ok(());
                }
                if counted.bytes < declared && counted.read(&mut [0])? == 0 {
                    return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the archive is truncated; fetch it again"));
                }
            }
            if wanted.peek().is_some() {
                return Err(io::Error::other("the archive changed while it was read; run again"));
            }
        }
    }
    Ok(())
}

/// Reader that counts bytes, because the library does not report truncated members.
struct Counted<'a> {
    file: &'a mut dyn Read,
    bytes: u64,
}

impl Read for Counted<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read(buffer)?;
        self.bytes += read as u64;
        Ok(read)
    }
}

fn open_zip(file: File) -> io::Result<ZipArchive<BufReader<File>>> {
    ZipArchive::new(BufReader::new(file)).map_err(zip_error)
}

fn zip_error(error: zip::result::ZipError) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("{error}; fetch it again"))
}

fn rejected(what: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("{what}, which a data archive never has; check its origin"))
}

fn check_path(name: &str) -> io::Result<()> {
    let inside = Path::new(name).components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
    // On Windows a backslash is a separator.
    let outside_on_windows = name.split('\\').any(|part| part == "..") || name.contains('\0');
    if inside && !outside_on_windows {
        Ok(())
    } else {
        Err(rejected(format!("the path `{}` is outside of the archive", name.escape_debug())))
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use zip::write::SimpleFileOptions;

    use super::*;

    fn zip_of(members: &[(&str, &[u8])]) -> Vec<u8> {
        let mut archive = zip::ZipWriter::new(io::Cursor::new(Vec::new()));
        for (name, content) in members {
            archive.start_file(*name, SimpleFileOptions::default()).expect("member");
            archive.write_all(content).expect("content");
        }
        archive.finish().expect("finish").into_inner()
    }

    fn tar_of(members: &[(&str, &[u8], tar::EntryType)]) -> Vec<u8> {
        let mut archive = tar::Builder::new(Vec::new());
        for (name, content, kind) in members {
            let mut header = tar::Header::new_gnu();
            // The builder's own methods refuse the paths that are tested here.
            header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
            header.set_size(content.len() as u64);
            header.set_entry_type(*kind);
            if !kind.is_file() {
                header.set_link_name("/etc/passwd").expect("link");
            }
            header.set_cksum();
            archive.append(&header, *content).expect("append");
        }
        archive.into_inner().expect("finish")
    }

    fn listed(bytes: &[u8], kind: Kind) -> Result<Vec<(String, u64)>, String> {
        let file = tempfile::NamedTempFile::new().expect("file");
        std::fs::write(file.path(), bytes).expect("write");
        let found = members(file.path(), kind).map_err(|e| e.to_string())?;
        Ok(found.into_iter().map(|member| (member.name, member.bytes)).collect())
    }

    fn contents(bytes: &[u8], kind: Kind, indices: &[usize]) -> io::Result<Vec<String>> {
        let file = tempfile::NamedTempFile::new().expect("file");
        std::fs::write(file.path(), bytes).expect("write");
        let mut texts = Vec::new();
        read(file.path(), kind, indices, &mut |_, member| {
            let mut text = String::new();
            member.read_to_string(&mut text)?;
            texts.push(text);
            Ok(true)
        })?;
        Ok(texts)
    }

    #[test]
    fn members_are_listed_and_read_in_one_pass() {
        let zip = zip_of(&[("a.txt", b"one"), ("b/c.txt", b"two"), ("d", b"three")]);
        let kind = tar::EntryType::Regular;
        let tar = tar_of(&[("a.txt", b"one", kind), ("b/c.txt", b"two", kind), ("d", b"three", kind)]);
        let compressed = zstd::encode_all(tar.as_slice(), 3).expect("zstd");
        for (bytes, kind) in [(&zip, Kind::Zip), (&tar, Kind::Tar), (&compressed, Kind::Tar)] {
            let names = listed(bytes, kind).expect("valid");
            assert_eq!(names, [("a.txt".to_owned(), 3), ("b/c.txt".to_owned(), 3), ("d".to_owned(), 5)]);
            assert_eq!(contents(bytes, kind, &[0, 2]).expect("read"), ["one", "three"]);
        }
        assert!(contents(&tar[..tar.len() - 1024 - 510], Kind::Tar, &[2]).is_err());
    }

    #[test]
    fn hostile_archives_are_errors() {
        use tar::EntryType as T;
        for name in ["../train.jsonl", "/etc/train.jsonl", "a/../../train.jsonl", "..\\train.jsonl"] {
            let error = listed(&tar_of(&[("fine", b"x", T::Regular), (name, b"x", T::Regular)]), Kind::Tar).expect_err(name);
            assert!(error.contains("is outside of the archive"), "{error}");
            let error = listed(&zip_of(&[("fine", b"x"), (name, b"x")]), Kind::Zip).expect_err(name);
            assert!(error.contains("is outside of the archive"), "{error}");
        }
        for kind in [T::Symlink, T::Link] {
            let error = listed(&tar_of(&[("train.jsonl", b"", kind)]), Kind::Tar).expect_err("a link");
            assert!(error.contains("`train.jsonl` is a link"), "{error}");
        }
        let mut linked = zip::ZipWriter::new(io::Cursor::new(Vec::new()));
        linked.add_symlink("train.jsonl", "/etc/passwd", SimpleFileOptions::default()).expect("link");
        let error = listed(&linked.finish().expect("finish").into_inner(), Kind::Zip).expect_err("a link");
        assert!(error.contains("is a symbolic link"), "{error}");
        let zeros = vec![0; glm_support::files::bomb::HARMLESS_BYTES as usize + (1 << 20)];
        let error = listed(&zip_of(&[("train.jsonl", &zeros)]), Kind::Zip).expect_err("a bomb");
        assert!(error.contains("decompression bomb"), "{error}");
        assert!(listed(b"not an archive", Kind::Zip).expect_err("not an archive").contains("fetch it again"));
    }
}
