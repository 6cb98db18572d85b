use super::*;
use crate::store::embedded::{StoreSettings, open};
use tempfile::TempDir;

fn new(title: &str, version: &str) -> NewPackage {
    NewPackage {
        kind: PackageKind::Firmware,
        title: title.into(),
        version: version.into(),
        tag: None,
        url: None,
        algorithm: ChecksumAlgorithm::Sha256,
        checksum: None,
    }
}

fn packages(directory: &TempDir) -> Arc<Packages> {
    open(directory.path(), &StoreSettings::default())
        .unwrap()
        .packages
}

fn files(directory: &TempDir) -> Vec<String> {
    let Ok(entries) = fs::read_dir(directory.path().join("packages")) else {
        return Vec::new();
    };
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = names.collect();
    names.sort();
    names
}

#[test]
fn packages_are_kept_read_in_pieces_and_removed() {
    let directory = TempDir::new().unwrap();
    let bytes: Vec<u8> = (0..200_000_u32).map(|n| n.to_le_bytes()[0]).collect();
    let first = {
        let packages = packages(&directory);
        let first = packages.add(&new("T", "1"), &mut &bytes[..], 5).unwrap();
        assert_eq!((first.size, first.created_ms), (200_000, 5));
        packages.add(&new("T", "2"), &mut &b"x"[..], 6).unwrap();
        packages.remove(2).unwrap();
        assert_eq!(packages.remove(2), Err(PackageError::Unknown(2)));
        first
    };
    // A stop in the middle of an upload.
    fs::write(directory.path().join("packages/9.part"), b"x").unwrap();
    fs::write(directory.path().join("packages/8"), b"x").unwrap();
    let packages = packages(&directory);
    assert_eq!(files(&directory), ["1"]);
    assert_eq!(packages.list(), [Arc::clone(&first)]);
    for (offset, length, expected) in [
        (0, 512, &bytes[..512]),
        (199_900, 512, &bytes[199_900..]),
        (200_000, 1, &[]),
        (u64::MAX, 1, &[]),
    ] {
        assert_eq!(packages.read(1, offset, length).unwrap(), expected);
    }
    assert_eq!(packages.read(2, 0, 1), Err(PackageError::Unknown(2)));
    // Numbers are never given again.
    let next = packages.add(&new("T", "2"), &mut &b"x"[..], 6).unwrap();
    assert_eq!(next.id, 3);
    let taken = packages.add(&new("T", "2"), &mut &b"y"[..], 6);
    assert_eq!(taken.unwrap_err(), PackageError::Taken(3));
}

#[test]
fn what_cannot_be_used_leaves_nothing_behind() {
    let directory = TempDir::new().unwrap();
    let packages = packages(&directory);
    let with = |change: &dyn Fn(&mut NewPackage)| {
        let mut new = new("T", "1");
        change(&mut new);
        packages
            .add(&new, &mut &b"abc"[..], 0)
            .map(|package| package.id)
    };
    assert!(with(&|new| new.title = " ".into()).is_err());
    assert!(with(&|new| new.version = "v".repeat(256)).is_err());
    assert!(with(&|new| new.tag = Some("a\nb".into())).is_err());
    assert!(with(&|new| new.url = Some(String::new())).is_err());
    assert!(with(&|new| new.checksum = Some("00".into())).is_err());
    assert!(packages.add(&new("T", "1"), &mut io::empty(), 0).is_err());
    struct Broken;
    impl Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::ErrorKind::UnexpectedEof.into())
        }
    }
    assert!(packages.add(&new("T", "1"), &mut Broken, 0).is_err());
    let endless = &mut io::repeat(1);
    assert!(packages.add(&new("T", "1"), endless, 0).is_err());
    assert!(files(&directory).is_empty() && packages.list().is_empty());
    let sum = "BA7816BF8F01CFEA414140DE5DAE2223B00361A396177A9CB410FF61F20015AD";
    assert!(with(&|new| new.checksum = Some(sum.into())).is_ok());
    // Elsewhere: no bytes are taken.
    let url = with(&|new| {
        new.version = "2".into();
        new.url = Some("https://example.com/fw".into());
    });
    assert_eq!(packages.find(url.unwrap()).unwrap().size, 0);
    assert_eq!(files(&directory).len(), 1);
}
