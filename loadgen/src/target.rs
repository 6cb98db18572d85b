//! The server under load: its address, and the path that its URI may carry.

use std::net::{SocketAddr, ToSocketAddrs};
use std::str::FromStr;

/// A server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    /// As it was given.
    pub(crate) uri: String,
    /// CoAPS instead of CoAP.
    pub(crate) secure: bool,
    /// Its address, resolved once.
    pub(crate) address: SocketAddr,
    /// Path and query of the URI, from `/` on, if it has any.
    pub(crate) path: Option<String>,
}

impl FromStr for Target {
    type Err = String;

    fn from_str(uri: &str) -> Result<Self, String> {
        let (secure, rest) = if let Some(rest) = uri.strip_prefix("coaps://") {
            (true, rest)
        } else if let Some(rest) = uri.strip_prefix("coap://") {
            (false, rest)
        } else {
            return Err("must start with coaps:// or coap://".into());
        };
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let (host, port) = split_port(authority, if secure { 5684 } else { 5683 })?;
        let address = (host, port)
            .to_socket_addrs()
            .map_err(|error| format!("{host}: {error}"))?
            .next()
            .ok_or_else(|| format!("{host}: has no address"))?;
        Ok(Self {
            uri: uri.to_owned(),
            secure,
            address,
            path: (path.len() > 1).then(|| path.to_owned()),
        })
    }
}

/// `host`, `host:port`, `[v6]` or `[v6]:port`.
fn split_port(authority: &str, default: u16) -> Result<(&str, u16), String> {
    let (host, port) = if let Some(bracketed) = authority.strip_prefix('[') {
        let (host, after) = bracketed.split_once(']').ok_or("] is missing")?;
        (host, after.strip_prefix(':'))
    } else {
        match authority.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        }
    };
    if host.is_empty() {
        return Err("the host is missing".into());
    }
    let port = match port {
        None => default,
        Some(port) => port
            .parse()
            .ok()
            .filter(|&port| port != 0)
            .ok_or_else(|| format!("{port:?} is not a port"))?,
    };
    Ok((host, port))
}

/// Path segments and queries of a request path, percent-decoded (RFC 7252 section 6.4).
///
/// # Errors
///
/// What is wrong with an escape.
pub(crate) fn split_path(path: &str) -> Result<(Vec<String>, Vec<String>), String> {
    let (path, query) = match path.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (path, None),
    };
    let path = path.strip_prefix('/').unwrap_or(path);
    let split = |text: &str, at: char| -> Result<Vec<String>, String> {
        text.split(at).map(percent_decode).collect()
    };
    let segments = if path.is_empty() {
        Vec::new()
    } else {
        split(path, '/')?
    };
    let queries = query.map_or(Ok(Vec::new()), |query| split(query, '&'))?;
    Ok((segments, queries))
}

fn percent_decode(text: &str) -> Result<String, String> {
    let wrong =
        || format!("{text:?}: a % must be followed by two hexadecimal digits of UTF-8 text");
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let (digits, tail) = rest.split_at_checked(2).ok_or_else(wrong)?;
        let digits = std::str::from_utf8(digits).map_err(|_| wrong())?;
        if !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return Err(wrong());
        }
        bytes.push(u8::from_str_radix(digits, 16).map_err(|_| wrong())?);
        rest = tail;
    }
    String::from_utf8(bytes).map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_read() {
        let target: Target = "coaps://127.0.0.1".parse().unwrap();
        assert_eq!(
            (target.secure, target.address.to_string().as_str()),
            (true, "127.0.0.1:5684")
        );
        assert_eq!(target.path, None);
        let target: Target = "coap://[::1]:7/x/y".parse().unwrap();
        assert_eq!(
            (target.secure, target.address.to_string().as_str()),
            (false, "[::1]:7")
        );
        assert_eq!(target.path.as_deref(), Some("/x/y"));
        for bad in [
            "127.0.0.1",
            "coap://",
            "coap://:5",
            "coap://127.0.0.1:0",
            "coap://127.0.0.1:70000",
            "coap://[::1",
        ] {
            assert!(bad.parse::<Target>().is_err(), "{bad}");
        }
    }

    #[test]
    fn paths_are_split_and_decoded() {
        let owned = |texts: &[&str]| {
            texts
                .iter()
                .map(|&text| text.to_owned())
                .collect::<Vec<_>>()
        };
        assert_eq!(
            split_path("/api/v1/a%2Fb/c?x=1&y=%20"),
            Ok((owned(&["api", "v1", "a/b", "c"]), owned(&["x=1", "y= "])))
        );
        assert_eq!(split_path("/"), Ok((Vec::new(), Vec::new())));
        for bad in ["/%", "/%4", "/%+1", "/%ff"] {
            assert!(split_path(bad).is_err(), "{bad}");
        }
    }
}
