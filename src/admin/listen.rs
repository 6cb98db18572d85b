//! The listening sockets, and the way to the unix socket.

use crate::admin::AdminSettings;
use std::fs::{File, Permissions};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

/// Longest path that a socket address holds on Linux (`sun_path`, less its final zero).
const SOCKET_PATH_MAX: usize = 107;

/// Why the admin server does not start.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// The TCP port cannot be opened.
    #[error(
        "TIDEGATE_ADMIN_BIND={address}: cannot be opened: {source}; {remedy}",
        remedy = bind_remedy(source)
    )]
    Bind {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// The unix socket cannot be made.
    #[error(
        "the admin socket {} cannot be made: {source}; check TIDEGATE_DATA_DIR and its permissions",
        path.display()
    )]
    Socket {
        /// The socket.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another server has the unix socket.
    #[error(
        "the admin socket {} belongs to a running server; stop it, or choose another \
         TIDEGATE_DATA_DIR",
        path.display()
    )]
    InUse {
        /// The socket.
        path: PathBuf,
    },
    /// The thread or its runtime cannot be started.
    #[error("the admin server's thread cannot be started: {0}")]
    Thread(io::Error),
}

fn bind_remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            "choose another port or stop what has it (`ss -ltnp` names it), or set it empty for none"
        }
        io::ErrorKind::AddrNotAvailable => "choose an address of this host (`ip addr` lists them)",
        io::ErrorKind::PermissionDenied => "choose a port from 1024 on",
        _ => "check the address, or set it empty for none",
    }
}

/// The opened sockets, not blocking.
#[derive(Debug)]
pub(super) struct Listeners {
    pub(super) tcp: Option<(TcpListener, SocketAddr)>,
    pub(super) unix: Option<(UnixListener, SocketFile)>,
}

pub(super) fn open(settings: &AdminSettings) -> Result<Listeners, AdminError> {
    let tcp = match settings.bind {
        Some(address) => {
            Some(open_tcp(address).map_err(|source| AdminError::Bind { address, source })?)
        }
        None => None,
    };
    let unix = match &settings.socket {
        Some(path) => Some(open_unix(path)?),
        None => None,
    };
    Ok(Listeners { tcp, unix })
}

fn open_tcp(address: SocketAddr) -> io::Result<(TcpListener, SocketAddr)> {
    let listener = TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    Ok((listener, address))
}

fn open_unix(path: &Path) -> Result<(UnixListener, SocketFile), AdminError> {
    let failed = |source| AdminError::Socket {
        path: path.to_owned(),
        source,
    };
    remove_stale(path)?;
    let reachable = Reachable::new(path).map_err(failed)?;
    let listener = UnixListener::bind(&reachable.path).map_err(failed)?;
    let file = SocketFile(path.to_owned());
    // The directory keeps others out in the moment before this.
    std::fs::set_permissions(path, Permissions::from_mode(0o600)).map_err(failed)?;
    listener.set_nonblocking(true).map_err(failed)?;
    Ok((listener, file))
}

/// Removes the socket that a killed server left behind; never anything else.
fn remove_stale(path: &Path) -> Result<(), AdminError> {
    let failed = |source| AdminError::Socket {
        path: path.to_owned(),
        source,
    };
    match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(error)),
        Ok(found) if !found.file_type().is_socket() => {
            let kind = io::ErrorKind::AlreadyExists;
            return Err(failed(io::Error::new(kind, "it is not a socket")));
        }
        Ok(_) => {}
    }
    match connect(path) {
        Ok(_) => Err(AdminError::InUse {
            path: path.to_owned(),
        }),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            std::fs::remove_file(path).map_err(failed)
        }
        Err(error) => Err(failed(error)),
    }
}

/// Connects to the unix socket at `path`.
pub(super) fn connect(path: &Path) -> io::Result<UnixStream> {
    let reachable = Reachable::new(path)?;
    UnixStream::connect(&reachable.path)
}

/// A path to a socket that a socket address can hold, however long the directory's is.
struct Reachable {
    path: PathBuf,
    /// Open as long as `path` leads through it.
    _directory: Option<File>,
}

impl Reachable {
    fn new(path: &Path) -> io::Result<Self> {
        if path.as_os_str().len() <= SOCKET_PATH_MAX {
            return Ok(Self {
                path: path.to_owned(),
                _directory: None,
            });
        }
        let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        let directory = File::open(directory)?;
        let link = Path::new("/proc/self/fd").join(directory.as_raw_fd().to_string());
        Ok(Self {
            path: link.join(name),
            _directory: Some(directory),
        })
    }
}

/// Removes the socket when dropped.
#[derive(Debug)]
pub(super) struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        // Left behind it would be found stale by the next start.
        let _ = std::fs::remove_file(&self.0);
    }
}
