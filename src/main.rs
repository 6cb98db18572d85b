//! scratch until the command line lands
fn main() {
    tracing_subscriber::fmt().init();
    let sources = tidegate::config::Sources::of_process(None, true);
    let config = tidegate::config::Config::load(&sources).unwrap();
    if let Err(error) = tidegate::server::run(&config) {
        eprintln!("{error}");
        std::process::exit(1)
    }
}
