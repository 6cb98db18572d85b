//! Finding and reading of files, bounded.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::error::{CredentialError, Origin};

/// Longest file that is read, in bytes.
pub(super) const FILE_LENGTH_MAX: u64 = 1 << 20;

/// Where Spring, and so ThingsBoard, looks on the class path alone.
const CLASS_PATH: &str = "classpath:";

/// The path of file `name`: absolute, or relative to the working directory, or else to one of
/// `search_path`, which stands for the class path; after `classpath:` to one of those only.
///
/// # Errors
///
/// The paths that do not exist, in the order they were tried; none when `name` is empty.
pub(super) fn resolve(name: &str, search_path: &[PathBuf]) -> Result<PathBuf, Vec<PathBuf>> {
    let on_class_path = |name: &str| {
        let relative = name.trim_start_matches('/').to_owned();
        search_path.iter().map(move |dir| dir.join(&relative))
    };
    let candidates: Vec<PathBuf> = match name.strip_prefix(CLASS_PATH) {
        _ if name.is_empty() => Vec::new(),
        Some(name) => on_class_path(name).collect(),
        None if Path::new(name).is_absolute() => vec![PathBuf::from(name)],
        None => std::iter::once(PathBuf::from(name))
            .chain(on_class_path(name))
            .collect(),
    };
    match candidates.iter().find(|path| exists(path)) {
        Some(path) => Ok(path.clone()),
        None => Err(candidates),
    }
}

/// Whether there is something at `path`, be it out of our reach.
fn exists(path: &Path) -> bool {
    match path.metadata() {
        Ok(_) => true,
        Err(error) => !matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory),
    }
}

/// The content of a file of at most [`FILE_LENGTH_MAX`] bytes.
pub(super) fn read(origin: &Origin) -> Result<Zeroizing<Vec<u8>>, CredentialError> {
    let unreadable = |source| CredentialError::Unreadable {
        origin: origin.clone(),
        source,
    };
    let metadata = origin.path.metadata().map_err(unreadable)?;
    // Before the file is opened: opening a pipe would wait for its writer.
    if !metadata.is_file() {
        return Err(CredentialError::NotAFile {
            origin: origin.clone(),
        });
    }
    // One allocation, so that no copy of a secret stays behind when a buffer grows.
    let mut content = Zeroizing::new(Vec::with_capacity(
        usize::try_from(metadata.len().min(FILE_LENGTH_MAX) + 1).unwrap_or(0),
    ));
    File::open(&origin.path)
        .and_then(|file| file.take(FILE_LENGTH_MAX + 1).read_to_end(&mut content))
        .map_err(unreadable)?;
    if content.len() as u64 > FILE_LENGTH_MAX {
        return Err(CredentialError::TooLarge {
            origin: origin.clone(),
        });
    }
    Ok(content)
}

/// Whether every user of the host may read the file.
pub(super) fn is_world_readable(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    path.metadata()
        .is_ok_and(|metadata| metadata.permissions().mode() & 0o004 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_as_thingsboard_finds_them() {
        let (a, b) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let search = [a.path().to_owned(), b.path().to_owned()];
        std::fs::write(b.path().join("server.pem"), "x").unwrap();
        let found = b.path().join("server.pem");
        assert_eq!(resolve("server.pem", &search), Ok(found.clone()));
        assert_eq!(resolve("classpath:server.pem", &search), Ok(found.clone()));
        assert_eq!(resolve("classpath:/server.pem", &search), Ok(found.clone()));
        assert_eq!(resolve(found.to_str().unwrap(), &[]), Ok(found));
        assert_eq!(
            resolve("other.pem", &search),
            Err(vec![
                PathBuf::from("other.pem"),
                a.path().join("other.pem"),
                b.path().join("other.pem")
            ])
        );
        // The working directory of the tests has this file, and comes first.
        std::fs::write(a.path().join("Cargo.toml"), "x").unwrap();
        assert_eq!(
            resolve("Cargo.toml", &search),
            Ok(PathBuf::from("Cargo.toml"))
        );
        assert_eq!(
            resolve("classpath:Cargo.toml", &search),
            Ok(a.path().join("Cargo.toml"))
        );
        assert_eq!(resolve("", &search), Err(Vec::new()));
    }

    #[test]
    fn what_is_no_small_file_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let origin = |name: &str| Origin {
            setting: "COAP_DTLS_PEM_CERT",
            path: dir.path().join(name),
        };
        assert!(matches!(
            read(&origin("")),
            Err(CredentialError::NotAFile { .. })
        ));
        assert!(matches!(
            read(&origin("absent")),
            Err(CredentialError::Unreadable { .. })
        ));
        let length = usize::try_from(FILE_LENGTH_MAX).unwrap();
        std::fs::write(dir.path().join("limit"), vec![0; length]).unwrap();
        assert_eq!(read(&origin("limit")).unwrap().len(), length);
        std::fs::write(dir.path().join("large"), vec![0; length + 1]).unwrap();
        assert!(matches!(
            read(&origin("large")),
            Err(CredentialError::TooLarge { .. })
        ));
    }
}
