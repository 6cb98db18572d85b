//! Mbed TLS behind a safe face, as far as this client needs it.

use std::ffi::{CStr, CString, c_int};
use std::mem::zeroed;
use std::net::SocketAddr;
use std::ptr::{from_mut, null_mut};

use mbedtls_rs_sys as sys;

use crate::arguments::Arguments;
use crate::link::{Link, Timer, random, receive, send, set_timer, timer_state};

/// How long to wait for an answer to a message.
const ANSWER_TIMEOUT_MS: u32 = 1000;
/// Longest connection id (MBEDTLS_SSL_CID_OUT_LEN_MAX).
const CONNECTION_ID_MAX: usize = 32;

/// A client and all that its context points to; boxed, so that nothing moves.
pub(crate) struct Client {
    parts: Box<Parts>,
}

struct Parts {
    ssl: sys::mbedtls_ssl_context,
    config: sys::mbedtls_ssl_config,
    certificate: sys::mbedtls_x509_crt,
    trusted: sys::mbedtls_x509_crt,
    key: sys::mbedtls_pk_context,
    suites: [c_int; 2],
    link: Link,
    timer: Timer,
}

fn check(code: c_int, what: &str) -> Result<(), String> {
    if code == 0 {
        return Ok(());
    }
    Err(format!("{what}: -0x{:04x}", -code))
}

impl Client {
    pub(crate) fn new(arguments: &Arguments) -> Result<Self, String> {
        let server: SocketAddr = arguments.server.ok_or("no server is named")?;
        // SAFETY: these are plain C structures, set up by their init functions below.
        let mut parts = unsafe {
            Box::new(Parts {
                ssl: zeroed(),
                config: zeroed(),
                certificate: zeroed(),
                trusted: zeroed(),
                key: zeroed(),
                suites: [0; 2],
                link: Link::new(server)?,
                timer: Timer::default(),
            })
        };
        // SAFETY: every pointer is to a part of the box, which lives as long as the context.
        unsafe {
            check(sys::psa_crypto_init(), "psa_crypto_init")?;
            sys::mbedtls_ssl_init(&mut parts.ssl);
            sys::mbedtls_ssl_config_init(&mut parts.config);
            sys::mbedtls_x509_crt_init(&mut parts.certificate);
            sys::mbedtls_x509_crt_init(&mut parts.trusted);
            sys::mbedtls_pk_init(&mut parts.key);
            let defaults = sys::mbedtls_ssl_config_defaults(
                &mut parts.config,
                sys::MBEDTLS_SSL_IS_CLIENT as c_int,
                sys::MBEDTLS_SSL_TRANSPORT_DATAGRAM as c_int,
                sys::MBEDTLS_SSL_PRESET_DEFAULT as c_int,
            );
            check(defaults, "config_defaults")?;
            sys::mbedtls_ssl_conf_rng(&mut parts.config, Some(random), null_mut());
        }
        parts.configure(arguments)?;
        parts.set_up(arguments)?;
        Ok(Self { parts })
    }

    pub(crate) fn handshake(&mut self) -> Result<(), String> {
        loop {
            // SAFETY: the context is set up.
            let code = unsafe { sys::mbedtls_ssl_handshake(&mut self.parts.ssl) };
            if code != sys::MBEDTLS_ERR_SSL_WANT_READ && code != sys::MBEDTLS_ERR_SSL_WANT_WRITE {
                return check(code, "handshake");
            }
        }
    }

    /// Mbed TLS' name of the suite.
    pub(crate) fn suite(&self) -> String {
        // SAFETY: the name is a constant of the library.
        let name = unsafe { CStr::from_ptr(sys::mbedtls_ssl_get_ciphersuite(&self.parts.ssl)) };
        name.to_string_lossy().into_owned()
    }

    /// The ids that were agreed on: in records to us, and in records to the server.
    pub(crate) fn connection_ids(&mut self) -> Option<(Vec<u8>, Vec<u8>)> {
        let ssl = &mut self.parts.ssl;
        let (mut own, mut peer) = ([0; CONNECTION_ID_MAX], [0; CONNECTION_ID_MAX]);
        let (mut own_length, mut peer_length) = (0, 0);
        let (mut offered, mut enabled) = (0, 0);
        // SAFETY: the arrays have the greatest length that an id can have.
        let codes = unsafe {
            [
                sys::mbedtls_ssl_get_own_cid(ssl, &mut offered, own.as_mut_ptr(), &mut own_length),
                sys::mbedtls_ssl_get_peer_cid(
                    ssl,
                    &mut enabled,
                    peer.as_mut_ptr(),
                    &mut peer_length,
                ),
            ]
        };
        let agreed = codes == [0; 2] && enabled == sys::MBEDTLS_SSL_CID_ENABLED as c_int;
        agreed.then(|| (own[..own_length].to_vec(), peer[..peer_length].to_vec()))
    }

    pub(crate) fn write(&mut self, message: &[u8]) -> Result<(), String> {
        // SAFETY: pointer and length are those of `message`.
        let written =
            unsafe { sys::mbedtls_ssl_write(&mut self.parts.ssl, message.as_ptr(), message.len()) };
        if usize::try_from(written) == Ok(message.len()) {
            return Ok(());
        }
        check(written.min(-1), "write")
    }

    /// The next message, `None` after a while without one.
    pub(crate) fn read(&mut self) -> Result<Option<Vec<u8>>, String> {
        let mut buffer = vec![0; 4096];
        loop {
            // SAFETY: pointer and length are those of `buffer`.
            let code = unsafe {
                sys::mbedtls_ssl_read(&mut self.parts.ssl, buffer.as_mut_ptr(), buffer.len())
            };
            match code {
                sys::MBEDTLS_ERR_SSL_WANT_READ | sys::MBEDTLS_ERR_SSL_WANT_WRITE => {}
                sys::MBEDTLS_ERR_SSL_TIMEOUT => return Ok(None),
                _ => {
                    let length =
                        usize::try_from(code).map_err(|_| format!("read: -0x{:04x}", -code))?;
                    buffer.truncate(length);
                    return Ok(Some(buffer));
                }
            }
        }
    }

    pub(crate) fn rebind(&mut self) -> Result<(), String> {
        self.parts.link.rebind()
    }

    pub(crate) fn port(&self) -> u16 {
        let address = self.parts.link.socket.local_addr();
        address.map_or(0, |address| address.port())
    }

    pub(crate) fn close(&mut self) {
        // SAFETY: the context is set up.
        unsafe { sys::mbedtls_ssl_close_notify(&mut self.parts.ssl) };
    }
}

impl Parts {
    fn configure(&mut self, arguments: &Arguments) -> Result<(), String> {
        let config = &mut self.config;
        // SAFETY: every pointer is to a part of the box or to memory that is copied in the call.
        unsafe {
            sys::mbedtls_ssl_conf_read_timeout(config, ANSWER_TIMEOUT_MS);
            if let Some(first) = arguments.retransmission_ms {
                sys::mbedtls_ssl_conf_handshake_timeout(config, first, first.max(2000));
            }
            if let Some(name) = &arguments.suite {
                let name = CString::new(name.as_str()).map_err(|_| "a suite's name")?;
                self.suites[0] = sys::mbedtls_ssl_get_ciphersuite_id(name.as_ptr());
                if self.suites[0] == 0 {
                    return Err(format!("suite {name:?} is not known"));
                }
                sys::mbedtls_ssl_conf_ciphersuites(config, self.suites.as_ptr());
            }
            sys::mbedtls_ssl_conf_authmode(config, sys::MBEDTLS_SSL_VERIFY_NONE as c_int);
            if let Some(pem) = &arguments.trusted {
                let code = sys::mbedtls_x509_crt_parse(&mut self.trusted, pem.as_ptr(), pem.len());
                check(code, "trusted certificate")?;
                sys::mbedtls_ssl_conf_authmode(config, sys::MBEDTLS_SSL_VERIFY_REQUIRED as c_int);
                sys::mbedtls_ssl_conf_ca_chain(config, &mut self.trusted, null_mut());
            }
            if let (Some(certificate), Some(key)) = (&arguments.certificate, &arguments.key) {
                let code = sys::mbedtls_x509_crt_parse(
                    &mut self.certificate,
                    certificate.as_ptr(),
                    certificate.len(),
                );
                check(code, "certificate")?;
                let code = sys::mbedtls_pk_parse_key(
                    &mut self.key,
                    key.as_ptr(),
                    key.len(),
                    null_mut(),
                    0,
                    Some(random),
                    null_mut(),
                );
                check(code, "key")?;
                let code =
                    sys::mbedtls_ssl_conf_own_cert(config, &mut self.certificate, &mut self.key);
                check(code, "own_cert")?;
            }
            if let (Some(psk), Some(identity)) = (&arguments.psk, &arguments.psk_identity) {
                let code = sys::mbedtls_ssl_conf_psk(
                    config,
                    psk.as_ptr(),
                    psk.len(),
                    identity.as_ptr(),
                    identity.len(),
                );
                check(code, "psk")?;
            }
            if let Some(length) = arguments.max_fragment_length {
                let code = match length {
                    512 => sys::MBEDTLS_SSL_MAX_FRAG_LEN_512,
                    1024 => sys::MBEDTLS_SSL_MAX_FRAG_LEN_1024,
                    2048 => sys::MBEDTLS_SSL_MAX_FRAG_LEN_2048,
                    _ => sys::MBEDTLS_SSL_MAX_FRAG_LEN_4096,
                };
                check(
                    sys::mbedtls_ssl_conf_max_frag_len(config, code as u8),
                    "fragment length",
                )?;
            }
            if let Some(id) = &arguments.connection_id {
                let ignore = sys::MBEDTLS_SSL_UNEXPECTED_CID_IGNORE as c_int;
                check(
                    sys::mbedtls_ssl_conf_cid(config, id.len(), ignore),
                    "conf_cid",
                )?;
            }
        }
        Ok(())
    }

    fn set_up(&mut self, arguments: &Arguments) -> Result<(), String> {
        // SAFETY: as above.
        unsafe {
            check(sys::mbedtls_ssl_setup(&mut self.ssl, &self.config), "setup")?;
            if arguments.trusted.is_some() {
                let code = sys::mbedtls_ssl_set_hostname(&mut self.ssl, c"localhost".as_ptr());
                check(code, "hostname")?;
            }
            if let Some(mtu) = arguments.mtu {
                sys::mbedtls_ssl_set_mtu(&mut self.ssl, mtu);
            }
            if let Some(id) = &arguments.connection_id {
                let enable = sys::MBEDTLS_SSL_CID_ENABLED as c_int;
                let code = sys::mbedtls_ssl_set_cid(&mut self.ssl, enable, id.as_ptr(), id.len());
                check(code, "set_cid")?;
            }
            let link = from_mut(&mut self.link).cast();
            sys::mbedtls_ssl_set_bio(&mut self.ssl, link, Some(send), None, Some(receive));
            let timer = from_mut(&mut self.timer).cast();
            sys::mbedtls_ssl_set_timer_cb(&mut self.ssl, timer, Some(set_timer), Some(timer_state));
        }
        Ok(())
    }
}
