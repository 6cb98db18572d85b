//! `tidegate serve`.

use crate::cli::arguments::ServeArguments;
use crate::cli::{Failure, load_config};
use crate::{logging, server};

pub(super) fn run(arguments: &ServeArguments) -> Result<(), Failure> {
    let config = load_config(arguments.conf.as_deref(), arguments.dev)?;
    let settings = &config.tidegate;
    let log = logging::init(&settings.log, settings.log_format).map_err(Failure::new)?;
    let ended = server::run(&config);
    // What was logged comes before what is said at the end.
    drop(log);
    ended.map_err(Failure::new)
}
