//! A DTLS 1.2 client made of Mbed TLS, as a device would be: it sends what it is told and prints what
//! comes back. With `--rebind` it moves to a new UDP port before every message but the first, as a
//! device behind a NAT does, and lets the connection id speak for it.
//!
//! ```text
//! mbedtls-peer HOST:PORT [OPTION VALUE]... --send HEX [--send HEX]...
//!   established TLS-ECDHE-ECDSA-WITH-AES-128-CCM-8
//!   cid own=0a0b peer=0011223344
//!   sent from 40123
//!   received 60411234
//! ```
//!
//! Each message waits for an answer with its own Message ID and is repeated when there is none.

mod arguments;
mod library;
mod link;

use std::process::ExitCode;

use arguments::Arguments;
use library::Client;

/// How often a message without an answer is sent.
const ATTEMPTS: usize = 4;

fn main() -> ExitCode {
    match Arguments::parse(std::env::args().skip(1)).and_then(|arguments| run(&arguments)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            println!("failed {problem}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<(), String> {
    let mut client = Client::new(arguments)?;
    client.handshake()?;
    println!("established {}", client.suite());
    if let Some((own, peer)) = client.connection_ids() {
        println!("cid own={} peer={}", hex(&own), hex(&peer));
    }
    for (number, message) in arguments.messages.iter().enumerate() {
        if arguments.rebind && number > 0 {
            client.rebind()?;
        }
        println!("sent from {}", client.port());
        let answer = exchange(&mut client, message)?;
        println!("received {}", hex(&answer));
    }
    client.close();
    Ok(())
}

/// Sends a CoAP message until an answer with its Message ID comes.
fn exchange(client: &mut Client, message: &[u8]) -> Result<Vec<u8>, String> {
    for _ in 0..ATTEMPTS {
        client.write(message)?;
        while let Some(answer) = client.read()? {
            if answer.get(2..4) == message.get(2..4) {
                return Ok(answer);
            }
        }
    }
    Err("no answer".to_owned())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
