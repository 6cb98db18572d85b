//! Datagrams and the clock over one TCP connection to the runner.
//!
//! ```text
//! runner -> shim   'P' length(4) datagram      a datagram
//!                  'T' nanoseconds(8)          time passes; answered by 't' before it does
//!                  'E' nanoseconds(8)          when the next timeout must be, all ones for never
//!                  'M' bytes(4)                a new MTU
//!                  'U' milliseconds(4)         a new first retransmission interval
//! shim -> runner   'P' length(4) datagram
//! ```

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

/// More than any datagram of the runner.
const PACKET_MAX: usize = 1 << 20;

/// What the runner said.
#[derive(Debug)]
pub(crate) enum Event {
    Datagram(Vec<u8>),
    TimePasses(Duration),
    /// The next timeout must be in so long; `None` for no timeout.
    ExpectTimeout(Option<Duration>),
    MaxTransmissionUnit,
    RetransmissionTimeout,
    /// The runner closed.
    End,
}

pub(crate) struct Transport {
    stream: TcpStream,
}

impl Transport {
    /// Connects and says which shim this is.
    pub(crate) fn connect(port: u16, ipv6: bool, shim_id: u64) -> io::Result<Self> {
        let address = if ipv6 {
            SocketAddr::from((Ipv6Addr::LOCALHOST, port))
        } else {
            SocketAddr::from((Ipv4Addr::LOCALHOST, port))
        };
        let mut stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.write_all(&shim_id.to_le_bytes())?;
        Ok(Self { stream })
    }

    pub(crate) fn next(&mut self) -> io::Result<Event> {
        let mut opcode = [0];
        if self.stream.read(&mut opcode)? == 0 {
            return Ok(Event::End);
        }
        Ok(match opcode {
            [b'P'] => {
                let length = u32::from_be_bytes(self.read()?);
                let length = usize::try_from(length).unwrap_or(usize::MAX);
                if length > PACKET_MAX {
                    return Err(io::Error::other("a datagram beyond all bounds"));
                }
                let mut datagram = vec![0; length];
                self.stream.read_exact(&mut datagram)?;
                Event::Datagram(datagram)
            }
            [b'T'] => {
                let nanoseconds = u64::from_be_bytes(self.read()?);
                self.stream.write_all(b"t")?;
                Event::TimePasses(Duration::from_nanos(nanoseconds))
            }
            [b'E'] => {
                let nanoseconds = u64::from_be_bytes(self.read()?);
                let expected = Duration::from_nanos(nanoseconds);
                Event::ExpectTimeout((nanoseconds != u64::MAX).then_some(expected))
            }
            [b'M'] => {
                let _: [u8; 4] = self.read()?;
                Event::MaxTransmissionUnit
            }
            [b'U'] => {
                let _: [u8; 4] = self.read()?;
                Event::RetransmissionTimeout
            }
            [other] => return Err(io::Error::other(format!("unknown opcode {other}"))),
        })
    }

    pub(crate) fn send(&mut self, datagram: &[u8]) -> io::Result<()> {
        let length = u32::try_from(datagram.len()).map_err(io::Error::other)?;
        let mut packet = vec![b'P'];
        packet.extend_from_slice(&length.to_be_bytes());
        packet.extend_from_slice(datagram);
        self.stream.write_all(&packet)
    }

    fn read<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        let mut bytes = [0; N];
        self.stream.read_exact(&mut bytes)?;
        Ok(bytes)
    }
}

impl Drop for Transport {
    /// Half-closes and reads to the end, so that nothing the runner still writes fails.
    fn drop(&mut self) {
        let _ = self.stream.shutdown(Shutdown::Write);
        let _ = io::copy(&mut self.stream, &mut io::sink());
    }
}
