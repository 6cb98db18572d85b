//! What Mbed TLS is handed: a socket, a timer, randomness.

use std::ffi::{c_int, c_uchar, c_void};
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::net::{SocketAddr, UdpSocket};
use std::slice;
use std::time::{Duration, Instant};

use mbedtls_rs_sys::{MBEDTLS_ERR_SSL_TIMEOUT, MBEDTLS_ERR_SSL_WANT_READ};

/// The way to the server.
pub(crate) struct Link {
    server: SocketAddr,
    pub(crate) socket: UdpSocket,
}

impl Link {
    pub(crate) fn new(server: SocketAddr) -> Result<Self, String> {
        Ok(Self {
            server,
            socket: bind(server)?,
        })
    }

    /// Goes on from another port, as behind a NAT that forgot the old one.
    pub(crate) fn rebind(&mut self) -> Result<(), String> {
        self.socket = bind(self.server)?;
        Ok(())
    }
}

fn bind(server: SocketAddr) -> Result<UdpSocket, String> {
    let socket = UdpSocket::bind("0.0.0.0:0").and_then(|socket| {
        socket.connect(server)?;
        Ok(socket)
    });
    socket.map_err(|error| format!("socket: {error}"))
}

pub(crate) unsafe extern "C" fn send(
    link: *mut c_void,
    bytes: *const c_uchar,
    length: usize,
) -> c_int {
    // SAFETY: the client hands its own link, and Mbed TLS `length` bytes.
    let (link, bytes) = unsafe { (&*link.cast::<Link>(), slice::from_raw_parts(bytes, length)) };
    match link.socket.send(bytes) {
        Ok(sent) => c_int::try_from(sent).unwrap_or(-1),
        // An ICMP message of an earlier datagram: this one is as good as lost.
        Err(_) => c_int::try_from(length).unwrap_or(-1),
    }
}

/// Waits for a datagram for `timeout` milliseconds, for ever when it is zero.
pub(crate) unsafe extern "C" fn receive(
    link: *mut c_void,
    buffer: *mut c_uchar,
    length: usize,
    timeout: u32,
) -> c_int {
    // SAFETY: as above; the buffer is Mbed TLS' own.
    let (link, buffer) = unsafe {
        (
            &*link.cast::<Link>(),
            slice::from_raw_parts_mut(buffer, length),
        )
    };
    let timeout = (timeout != 0).then(|| Duration::from_millis(timeout.into()));
    if link.socket.set_read_timeout(timeout).is_err() {
        return -1;
    }
    match link.socket.recv(buffer) {
        Ok(received) => c_int::try_from(received).unwrap_or(-1),
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => MBEDTLS_ERR_SSL_WANT_READ,
        Err(_) => MBEDTLS_ERR_SSL_TIMEOUT,
    }
}

/// The pair of delays that Mbed TLS asks for during a handshake.
pub(crate) struct Timer {
    started: Instant,
    intermediate: Duration,
    last: Option<Duration>,
}

impl Default for Timer {
    fn default() -> Self {
        Self {
            started: Instant::now(),
            intermediate: Duration::ZERO,
            last: None,
        }
    }
}

pub(crate) unsafe extern "C" fn set_timer(timer: *mut c_void, intermediate: u32, last: u32) {
    // SAFETY: the client hands its own timer.
    let timer = unsafe { &mut *timer.cast::<Timer>() };
    *timer = Timer {
        started: Instant::now(),
        intermediate: Duration::from_millis(intermediate.into()),
        last: (last != 0).then(|| Duration::from_millis(last.into())),
    };
}

/// -1: not set; 0: none passed; 1: the first passed; 2: both.
pub(crate) unsafe extern "C" fn timer_state(timer: *mut c_void) -> c_int {
    // SAFETY: as above.
    let timer = unsafe { &*timer.cast::<Timer>() };
    let elapsed = timer.started.elapsed();
    match timer.last {
        None => -1,
        Some(last) if elapsed >= last => 2,
        Some(_) if elapsed >= timer.intermediate => 1,
        Some(_) => 0,
    }
}

pub(crate) unsafe extern "C" fn random(
    _: *mut c_void,
    output: *mut c_uchar,
    length: usize,
) -> c_int {
    // SAFETY: Mbed TLS hands `length` bytes to fill.
    let output = unsafe { slice::from_raw_parts_mut(output, length) };
    match File::open("/dev/urandom").and_then(|mut file| file.read_exact(output)) {
        Ok(()) => 0,
        Err(_) => -1,
    }
}

/// Mbed TLS' own wish for randomness, by the name that it links.
#[unsafe(no_mangle)]
unsafe extern "C" fn mbedtls_psa_external_get_random(
    _: *mut c_void,
    output: *mut u8,
    size: usize,
    length: *mut usize,
) -> i32 {
    // SAFETY: Mbed TLS hands `size` bytes to fill, and a place for their number.
    unsafe {
        *length = size;
        random(std::ptr::null_mut(), output, size)
    }
}
