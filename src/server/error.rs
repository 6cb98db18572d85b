//! What keeps the server from starting, as one message that says what to do.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use crate::admin::{AdminError, TokenError};
use crate::credentials::{CredentialError, TicketKeysError};
use crate::store::embedded::OpenError;

/// Why the server did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The server's certificate or key cannot be used.
    #[error(transparent)]
    Credentials(#[from] CredentialError),
    /// The keys of session tickets cannot be used.
    #[error(transparent)]
    TicketKeys(#[from] TicketKeysError),
    /// The data directory cannot be used.
    #[error(transparent)]
    Data(#[from] OpenError),
    /// A port cannot be opened.
    #[error("{setting}: {address} cannot be opened: {source}; {remedy}", remedy = bind_remedy(source))]
    Bind {
        /// The settings that decide the address.
        setting: &'static str,
        /// The address.
        address: SocketAddr,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The admin interface cannot be opened.
    #[error(transparent)]
    Admin(#[from] AdminError),
    /// The token of the admin interface cannot be used.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// No executor: the kernel refuses io_uring or locked memory.
    #[error(
        "a shard's executor cannot start: {0}; it needs io_uring (kernel 5.8 or newer, not forbidden \
         by kernel.io_uring_disabled or a container's seccomp profile) and locked memory (raise \
         `ulimit -l`, or LimitMEMLOCK= of the unit); `tidegate doctor` tells which"
    )]
    Executor(String),
    /// A shard ended while the server ran.
    #[error("shard {0} ended by a defect of the server; the log says where: please report it")]
    ShardEnded(usize),
    /// The settings leave nothing to serve.
    #[error(
        "neither CoAP nor CoAPS would be served: set COAP_DTLS_ENABLED=true or \
         TIDEGATE_PLAIN_COAP=true"
    )]
    NothingToServe,
    /// A setting that only shows its fault in use.
    #[error("{setting}: {problem}; {remedy}")]
    Setting {
        /// The setting's name.
        setting: &'static str,
        /// What is wrong with it.
        problem: String,
        /// What to do.
        remedy: &'static str,
    },
    /// A file of the development set-up cannot be made.
    #[error("{file} cannot be made: {problem}; check TIDEGATE_DATA_DIR and its permissions",
        file = file.display())]
    Development {
        /// The file or directory.
        file: PathBuf,
        /// Why not.
        problem: String,
    },
    /// The operating system refused something that it normally grants.
    #[error("{0} failed: {1}")]
    Process(&'static str, io::Error),
}

fn bind_remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            "stop the process that has it (`ss -ulpn` names it) or choose another port"
        }
        io::ErrorKind::AddrNotAvailable => "choose an address of this host (`ip addr` lists them)",
        io::ErrorKind::PermissionDenied => {
            "choose a port from 1024 on, or grant CAP_NET_BIND_SERVICE"
        }
        _ => "check the address",
    }
}
