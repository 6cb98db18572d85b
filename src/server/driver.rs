//! Which way the datagrams travel.

use super::StartError;
use crate::config::value::DriverChoice;
use crate::shard::DriverKind;

/// Chooses as the setting says, and tells the log.
pub(super) fn choose(choice: DriverChoice) -> Result<DriverKind, StartError> {
    let kind = match choice {
        DriverChoice::Mmsg => DriverKind::Mmsg,
        DriverChoice::Auto | DriverChoice::Uring => match DriverKind::probe_uring() {
            Ok(()) => DriverKind::Uring,
            Err(error) if choice == DriverChoice::Uring => {
                return Err(StartError::Setting {
                    setting: "TIDEGATE_DRIVER",
                    problem: format!("uring: the kernel cannot do it: {error}"),
                    remedy: "set it to auto or mmsg, or use Linux 6.1 or newer",
                });
            }
            Err(error) => {
                tracing::info!(%error, "the kernel has no io_uring for datagrams");
                DriverKind::Mmsg
            }
        },
    };
    tracing::info!(driver = kind.name(), "datagrams travel");
    Ok(kind)
}
