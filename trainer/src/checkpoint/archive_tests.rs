//! Tests with archives in the published layout.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use bzip2::Compression;
use bzip2::write::BzEncoder;
use glm_support::files::bomb::{HARMLESS_BYTES, MAX_RATIO};
use glm_support::files::progress;
use tar::EntryType;
use tempfile::{TempDir, tempdir};

use super::archive::check;
use super::locate::weights_file;
use super::published::PUBLISHED_FILE;

const MEMBERS: [(&str, &[u8]); 2] = [
    ("blocklm-large-blank/200000/mp_rank_00_model_states.pt", &[7; 5000]),
    ("blocklm-large-blank/latest_checkpointed_iteration.txt", b"200000"),
];

/// Builds a tar.bz2 archive. Names are written unchanged, including those that tar itself rejects.
fn packed(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut archive = tar::Builder::new(BzEncoder::new(Vec::new(), Compression::fast()));
    for (name, content) in members {
        let mut header = tar::Header::new_ustar();
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        header.set_entry_type(if name.ends_with('/') { EntryType::Directory } else { EntryType::Regular });
        header.set_cksum();
        archive.append(&header, *content).expect("append");
    }
    archive.into_inner().and_then(BzEncoder::finish).expect("finish")
}

fn archive(content: &[u8]) -> (TempDir, PathBuf) {
    let folder = tempdir().expect("folder");
    let path = folder.path().join("glm-large-blank.tar.bz2");
    fs::write(&path, content).expect("write");
    (folder, path)
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(folder)
        .expect("list")
        .map(|entry| entry.expect("entry").file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

#[test]
fn an_archive_is_unpacked_once() {
    let (folder, path) = archive(&packed(&MEMBERS));
    // Leftover of a killed process.
    fs::create_dir_all(folder.path().join(".blocklm-large-blank.unpacking-1/blocklm-large-blank")).expect("leftover");
    let expected = folder.path().join(MEMBERS[0].0);
    assert_eq!(weights_file(&path).expect("unpacked"), expected);
    assert_eq!(fs::read(&expected).expect("read"), MEMBERS[0].1);
    assert_eq!(names(folder.path()), ["blocklm-large-blank", "glm-large-blank.tar.bz2"]);

    // A second start uses the unpacked folder; so does the folder that contains both.
    fs::write(&expected, "changed").expect("write");
    for start in [path.as_path(), folder.path(), &folder.path().join("blocklm-large-blank")] {
        assert_eq!(weights_file(start).expect("found"), expected);
    }
    assert_eq!(fs::read(&expected).expect("read"), b"changed");
}

#[test]
fn an_archive_is_found_in_its_folder() {
    let (folder, _) = archive(&packed(&MEMBERS));
    assert_eq!(weights_file(folder.path()).expect("unpacked"), folder.path().join(MEMBERS[0].0));
}

#[test]
fn concurrent_starts_are_safe() {
    let (folder, path) = archive(&packed(&MEMBERS));
    std::thread::scope(|scope| {
        let starts: Vec<_> = (0..8).map(|_| scope.spawn(|| weights_file(&path).expect("unpacked"))).collect();
        for start in starts {
            let file = start.join().expect("no panic");
            assert_eq!(fs::read(file).expect("whole"), MEMBERS[0].1);
        }
    });
    assert_eq!(names(folder.path()), ["blocklm-large-blank", "glm-large-blank.tar.bz2"]);
}

#[test]
fn invalid_archives_leave_no_files() {
    let whole = packed(&MEMBERS);
    let cut = whole[..whole.len() - 9].to_vec();
    let mut damaged = whole.clone();
    damaged[whole.len() / 2] ^= 4;
    let not_tar = {
        let mut encoder = BzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(b"not a tar archive").expect("write");
        encoder.finish().expect("finish")
    };
    let outside = packed(&[MEMBERS[0], ("blocklm-large-blank/../../escaped", b"x")]);
    let two = packed(&[MEMBERS[0], ("other/x", b"x")]);
    let bare = packed(&[("mp_rank_00_model_states.pt", b"x")]);
    let cases = [
        (cut, "download it again"),
        (damaged, "download it again"),
        (not_tar, "is not a valid tar.bz2 archive"),
        (outside, "member 'blocklm-large-blank/../../escaped' leads out of the archive's folder"),
        (two, "has both blocklm-large-blank and other/x at its top"),
        (bare, "has no folder at its top"),
    ];
    for (content, reason) in cases {
        let (folder, path) = archive(&content);
        let error = weights_file(&path).expect_err("rejected").to_string();
        assert!(error.contains("glm-large-blank.tar.bz2") && error.contains(reason), "{error}");
        assert_eq!(names(folder.path()), ["glm-large-blank.tar.bz2"], "{error}");
    }
}

#[test]
fn decompression_bombs_leave_no_files() {
    let zeros = vec![0; HARMLESS_BYTES as usize + (1 << 20)];
    let packed = packed(&[("blocklm-large-blank/200000/mp_rank_00_model_states.pt", &zeros)]);
    assert!((packed.len() as u64) < HARMLESS_BYTES / MAX_RATIO, "{}", packed.len());
    let (folder, path) = archive(&packed);
    let error = weights_file(&path).expect_err("rejected").to_string();
    assert!(error.ends_with("like a decompression bomb; decompress it by hand if you trust it"), "{error}");
    assert_eq!(names(folder.path()), ["glm-large-blank.tar.bz2"]);
    let error = check(&path, &progress::Silent).expect_err("rejected").to_string();
    assert!(error.contains("decompression bomb"), "{error}");
}

#[test]
fn sparse_members_count_by_their_length() {
    let mut header = tar::Header::new_gnu();
    let mut tar = tar::Builder::new(BzEncoder::new(Vec::new(), Compression::fast()));
    header.set_path("blocklm-large-blank/7/mp_rank_00_model_states.pt").expect("path");
    header.set_mode(0o644);
    header.set_size(0);
    header.set_entry_type(EntryType::GNUSparse);
    let gnu = header.as_gnu_mut().expect("gnu");
    // A hole of 8 GiB, and no bytes.
    gnu.realsize = *b"77777777777\0";
    gnu.sparse[0].offset = *b"77777777777\0";
    gnu.sparse[0].numbytes = *b"00000000000\0";
    header.set_cksum();
    tar.append(&header, &b""[..]).expect("append");
    let (folder, path) = archive(&tar.into_inner().and_then(BzEncoder::finish).expect("finish"));
    let error = weights_file(&path).expect_err("rejected").to_string();
    assert!(error.contains("like a decompression bomb"), "{error}");
    assert_eq!(names(folder.path()), ["glm-large-blank.tar.bz2"]);
}

#[test]
fn links_are_skipped() {
    let mut tar = tar::Builder::new(BzEncoder::new(Vec::new(), Compression::fast()));
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(EntryType::Symlink);
    header.set_size(0);
    tar.append_link(&mut header, "blocklm-large-blank/link", "/etc/passwd").expect("link");
    let mut header = tar::Header::new_gnu();
    header.set_size(1);
    header.set_cksum();
    tar.append_data(&mut header, "blocklm-large-blank/7/mp_rank_00_model_states.pt", &b"x"[..]).expect("file");
    let (folder, path) = archive(&tar.into_inner().and_then(BzEncoder::finish).expect("finish"));
    assert!(weights_file(&path).is_ok());
    assert_eq!(names(&folder.path().join("blocklm-large-blank")), ["7"]);
}

#[test]
fn a_check_reads_to_the_end_and_requires_weights() {
    use glm_support::files::fetch::ContentFault;
    let checked = |content: &[u8]| {
        let (_folder, path) = archive(content);
        check(&path, &progress::Silent)
    };
    let whole = packed(&MEMBERS);
    assert!(checked(&whole).is_ok());
    assert!(matches!(checked(&whole[..whole.len() - 1]), Err(ContentFault::Damaged(_))));
    assert!(matches!(checked(&packed(&MEMBERS[1..])), Err(ContentFault::Missing(PUBLISHED_FILE))));
}

#[test]
fn the_error_of_a_damaged_header_is_one_line() {
    let mut archive_of = tar::Builder::new(BzEncoder::new(Vec::new(), Compression::fast()));
    let mut header = tar::Header::new_ustar();
    header.set_size(1);
    header.as_old_mut().cksum = *b"\n\x1b\xff\xfe\r\n\0\n";
    archive_of.append(&header, &b"x"[..]).expect("append");
    let (_folder, path) = archive(&archive_of.into_inner().and_then(BzEncoder::finish).expect("finish"));
    let error = weights_file(&path).expect_err("damaged").to_string();
    assert!(error.contains("is not a valid tar.bz2 archive") && error.ends_with("; download it again"), "{error}");
    assert!(!error.contains(|character: char| character.is_control() || character == '\u{fffd}'), "{error:?}");
}
