//! The yardstick: a bare UDP echo with recvmmsg and sendmmsg, 64 datagrams of 200 bytes at a time,
//! from 256 flows, on the core that the server has in the same run.
//!
//! ```text
//! client core   256 connected sockets, a few datagrams of each on their way
//! server core   recvmmsg(64) -> sendmmsg(as many), a nap when there were fewer     its CPU time counts
//! ```

#![allow(unsafe_code, reason = "recvmmsg and sendmmsg have no safe wrapper")]

use std::io;
use std::mem;
use std::net::UdpSocket;
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use super::cpus::pin;
use crate::measure::thread_cpu_ns;

const FLOWS: usize = 256;
const DATAGRAM: usize = 200;
const BATCH: usize = 64;
/// Datagrams of a flow on their way: enough that the server's batches are full, few enough for the
/// socket buffer that a host grants to anybody.
const PER_FLOW: usize = 2;
static KERNEL_BUFFER_BYTES: libc::c_int = 4 << 20;
const WARM_UP: Duration = Duration::from_millis(300);
/// Until the clients have filled the socket again.
const NAP: Duration = Duration::from_micros(300);

/// What the echo cost.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Echo {
    /// CPU time of the server per datagram received and sent back.
    pub(crate) us: f64,
    /// Datagrams per receive call.
    pub(crate) batch: f64,
}

#[derive(Default)]
struct Counts {
    measuring: AtomicBool,
    stop: AtomicBool,
    datagrams: AtomicU64,
    calls: AtomicU64,
    ns: AtomicU64,
}

/// Measures for `time`, server and client each on its core.
///
/// # Errors
///
/// What the kernel says.
pub(crate) fn measure(
    server_cpu: usize,
    client_cpu: usize,
    time: Duration,
) -> Result<Echo, String> {
    let words = |error: io::Error| format!("the echo cannot be measured: {error}");
    let server = UdpSocket::bind("127.0.0.1:0").map_err(words)?;
    set_buffers(&server);
    let address = server.local_addr().map_err(words)?;
    let flows = (0..FLOWS)
        .map(|_| {
            let flow = UdpSocket::bind("127.0.0.1:0")?;
            flow.connect(address)?;
            flow.set_nonblocking(true)?;
            Ok(flow)
        })
        .collect::<io::Result<Vec<_>>>()
        .map_err(words)?;
    let counts = Counts::default();
    std::thread::scope(|scope| {
        let serving = scope.spawn(|| {
            pin(server_cpu);
            serve(&server, &counts)
        });
        let asking = scope.spawn(|| {
            pin(client_cpu);
            ask(&flows, &counts);
        });
        std::thread::sleep(WARM_UP);
        counts.measuring.store(true, Relaxed);
        std::thread::sleep(time);
        counts.stop.store(true, Relaxed);
        let _ = asking.join();
        serving
            .join()
            .map_err(|_| "the echo's server panicked".to_owned())?
            .map_err(words)
    })?;
    let datagrams = counts.datagrams.load(Relaxed);
    if datagrams == 0 {
        return Err("no datagram was echoed".into());
    }
    #[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
    Ok(Echo {
        us: counts.ns.load(Relaxed) as f64 / 1e3 / datagrams as f64,
        batch: datagrams as f64 / counts.calls.load(Relaxed).max(1) as f64,
    })
}

fn serve(socket: &UdpSocket, counts: &Counts) -> io::Result<()> {
    let mut batch = Batch::new();
    let mut start = None;
    while !counts.stop.load(Relaxed) {
        if start.is_none() && counts.measuring.load(Relaxed) {
            start = Some(thread_cpu_ns());
        }
        let received = batch.receive(socket)?;
        if received > 0 {
            batch.send(socket, received)?;
        }
        if received > 0 && start.is_some() {
            counts.datagrams.fetch_add(received as u64, Relaxed);
            counts.calls.fetch_add(1, Relaxed);
        }
        if received < BATCH {
            // Batches are to be full: the echo is the least that a datagram can cost.
            std::thread::sleep(NAP);
        }
    }
    let end = thread_cpu_ns();
    counts
        .ns
        .store(end.saturating_sub(start.unwrap_or(end)), Relaxed);
    Ok(())
}

fn ask(flows: &[UdpSocket], counts: &Counts) {
    let mut on_their_way = vec![0; flows.len()];
    let mut buffer = [0; DATAGRAM];
    let mut silent = 0;
    while !counts.stop.load(Relaxed) {
        let mut any = false;
        for (flow, way) in flows.iter().zip(&mut on_their_way) {
            while *way > 0 && flow.recv(&mut buffer).is_ok() {
                *way -= 1;
                any = true;
            }
            while *way < PER_FLOW && flow.send(&buffer).is_ok() {
                *way += 1;
            }
        }
        silent = if any { 0 } else { silent + 1 };
        // What a full buffer lost is asked anew.
        if silent > 100 {
            on_their_way.fill(0);
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// Memory for one receive call and one send call.
struct Batch {
    buffers: Vec<[u8; DATAGRAM]>,
    addresses: Vec<libc::sockaddr_in>,
    vectors: Vec<libc::iovec>,
    headers: Vec<libc::mmsghdr>,
}

impl Batch {
    fn new() -> Self {
        // SAFETY: all-zero bytes are a valid sockaddr_in, iovec and mmsghdr: numbers and null pointers.
        let (address, vector, header) = unsafe { (mem::zeroed(), mem::zeroed(), mem::zeroed()) };
        let mut batch = Self {
            buffers: vec![[0; DATAGRAM]; BATCH],
            addresses: vec![address; BATCH],
            vectors: vec![vector; BATCH],
            headers: vec![header; BATCH],
        };
        for index in 0..BATCH {
            batch.vectors[index].iov_base = batch.buffers[index].as_mut_ptr().cast();
            let header = &mut batch.headers[index].msg_hdr;
            header.msg_name = (&raw mut batch.addresses[index]).cast();
            header.msg_iov = &raw mut batch.vectors[index];
            header.msg_iovlen = 1;
        }
        batch
    }

    fn receive(&mut self, socket: &UdpSocket) -> io::Result<usize> {
        for (header, vector) in self.headers.iter_mut().zip(&mut self.vectors) {
            vector.iov_len = DATAGRAM;
            header.msg_hdr.msg_namelen = ADDRESS_LENGTH;
        }
        // SAFETY: the headers point to buffers, addresses and vectors of `self`, which do not move
        // while it is lent here (they lie on the heap), with their true lengths.
        let received = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                self.headers.as_mut_ptr(),
                BATCH_COUNT,
                libc::MSG_DONTWAIT,
                std::ptr::null_mut(),
            )
        };
        usize::try_from(received).or_else(|_| would_block())
    }

    /// Sends the first `count` datagrams back to where they came from.
    fn send(&mut self, socket: &UdpSocket, count: usize) -> io::Result<()> {
        for (header, vector) in self.headers.iter().zip(&mut self.vectors) {
            vector.iov_len = DATAGRAM.min(header.msg_len as usize);
        }
        let count = libc::c_uint::try_from(count).unwrap_or(0);
        // SAFETY: as in `receive`; the kernel only reads.
        let sent =
            unsafe { libc::sendmmsg(socket.as_raw_fd(), self.headers.as_mut_ptr(), count, 0) };
        if sent < 0 {
            would_block()?;
        }
        Ok(())
    }
}

#[allow(clippy::cast_possible_truncation)]
const ADDRESS_LENGTH: libc::socklen_t = mem::size_of::<libc::sockaddr_in>() as _;
#[allow(clippy::cast_possible_truncation)]
const BATCH_COUNT: libc::c_uint = BATCH as _;

/// Zero when there was merely nothing to do.
fn would_block() -> io::Result<usize> {
    let error = io::Error::last_os_error();
    match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => Ok(0),
        _ => Err(error),
    }
}

/// As large as the server asks for; less is no error there either.
fn set_buffers(socket: &UdpSocket) {
    for option in [libc::SO_RCVBUF, libc::SO_SNDBUF] {
        // SAFETY: the option takes an int, whose address and length are given.
        unsafe {
            libc::setsockopt(
                socket.as_raw_fd(),
                libc::SOL_SOCKET,
                option,
                (&raw const KERNEL_BUFFER_BYTES).cast(),
                INT_LENGTH,
            );
        }
    }
}

#[allow(clippy::cast_possible_truncation)]
const INT_LENGTH: libc::socklen_t = mem::size_of::<libc::c_int>() as _;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn datagrams_come_back_and_cost_something() {
        let echo = measure(0, 0, Duration::from_millis(200)).unwrap();
        assert!(echo.us > 0.1 && echo.batch >= 1.0, "{echo:?}");
    }
}
