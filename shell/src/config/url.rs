//! The URLs a member listens on and advertises: a scheme with `host:port`, or with a socket's path.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;

/// A validated URL without path, query or user: `http://10.0.0.1:2379`, `unix:///run/metastore.sock`.
/// Orders by its text, the order in which lists of URLs are kept.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Url {
    /// How to speak to the endpoint.
    pub scheme: Scheme,
    /// Where the endpoint is.
    pub endpoint: Endpoint,
}

/// How to speak to an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// Plain text over TCP.
    Http,
    /// TLS over TCP.
    Https,
    /// Plain text over a unix socket.
    Unix,
    /// TLS over a unix socket.
    Unixs,
}

/// Where an endpoint is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Endpoint {
    /// A TCP port.
    Tcp {
        /// An address without brackets, or a name. Never empty.
        host: String,
        /// 0 lets the system choose a port when listening.
        port: u16,
    },
    /// The path of a unix socket. Never empty.
    Unix(PathBuf),
}

/// Why a text is not such a URL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    /// No `scheme://`, or one that is not known.
    #[error("a URL must start with http://, https://, unix:// or unixs://")]
    Scheme,
    /// The host is empty, unbalanced, or has characters a host cannot have.
    #[error(
        "a URL needs an IP address or a host name before its port, such as http://127.0.0.1:2379"
    )]
    Host,
    /// No port, or not a number up to 65535.
    #[error("a URL must end with its port, such as http://127.0.0.1:2379")]
    Port,
    /// Something after the port, or a user before the host.
    #[error("a URL here is only scheme://host:port, without user, path, query or fragment")]
    Excess,
    /// A unix URL that names no socket.
    #[error("a unix URL needs the path of its socket, such as unix:///run/metastore.sock")]
    SocketPath,
}

impl Scheme {
    /// Whether the scheme asks for TLS.
    pub fn is_tls(self) -> bool {
        matches!(self, Scheme::Https | Scheme::Unixs)
    }

    /// The scheme as it stands in front of `://`.
    pub fn as_str(self) -> &'static str {
        match self {
            Scheme::Http => "http",
            Scheme::Https => "https",
            Scheme::Unix => "unix",
            Scheme::Unixs => "unixs",
        }
    }
}

impl Url {
    /// The address to bind or connect to without asking a name server: an IP host, or `localhost` as 127.0.0.1.
    /// `None` for other names and for unix sockets.
    pub fn socket_address(&self) -> Option<SocketAddr> {
        let Endpoint::Tcp { host, port } = &self.endpoint else {
            return None;
        };
        let ip = if host == "localhost" {
            IpAddr::V4(Ipv4Addr::LOCALHOST)
        } else {
            host.parse().ok()?
        };
        Some(SocketAddr::new(ip, *port))
    }

    /// Whether the endpoint is a unix socket.
    pub fn is_unix(&self) -> bool {
        matches!(self.endpoint, Endpoint::Unix(_))
    }
}

impl FromStr for Url {
    type Err = UrlError;

    fn from_str(text: &str) -> Result<Url, UrlError> {
        let (scheme, rest) = text.split_once("://").ok_or(UrlError::Scheme)?;
        let scheme = match scheme.to_ascii_lowercase().as_str() {
            "http" => Scheme::Http,
            "https" => Scheme::Https,
            "unix" => Scheme::Unix,
            "unixs" => Scheme::Unixs,
            _ => return Err(UrlError::Scheme),
        };
        let endpoint = match scheme {
            Scheme::Http | Scheme::Https => tcp_endpoint(rest)?,
            Scheme::Unix | Scheme::Unixs if rest.is_empty() => return Err(UrlError::SocketPath),
            Scheme::Unix | Scheme::Unixs => Endpoint::Unix(PathBuf::from(rest)),
        };
        Ok(Url { scheme, endpoint })
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = self.scheme.as_str();
        match &self.endpoint {
            Endpoint::Tcp { host, port } if host.contains(':') => {
                write!(f, "{scheme}://[{host}]:{port}")
            }
            Endpoint::Tcp { host, port } => write!(f, "{scheme}://{host}:{port}"),
            Endpoint::Unix(path) => write!(f, "{scheme}://{}", path.display()),
        }
    }
}

impl Ord for Url {
    fn cmp(&self, other: &Url) -> std::cmp::Ordering {
        self.to_string().cmp(&other.to_string())
    }
}

impl PartialOrd for Url {
    fn partial_cmp(&self, other: &Url) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

/// The URLs of a comma-separated list, sorted, each once. The error comes with the item that caused it.
pub(super) fn parse_list(text: &str) -> Result<Vec<Url>, (String, UrlError)> {
    let mut urls = Vec::new();
    for item in text
        .split(',')
        .map(str::trim)
        .filter(|item| !item.is_empty())
    {
        urls.push(
            item.parse::<Url>()
                .map_err(|error| (item.to_owned(), error))?,
        );
    }
    urls.sort();
    urls.dedup();
    Ok(urls)
}

fn tcp_endpoint(text: &str) -> Result<Endpoint, UrlError> {
    if text.contains(['/', '?', '#', '@']) {
        return Err(UrlError::Excess);
    }
    let (host, port) = text.rsplit_once(':').ok_or(UrlError::Port)?;
    // `parse` alone would take a sign.
    if !port.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(UrlError::Port);
    }
    let port = port.parse().map_err(|_| UrlError::Port)?;
    let host = match host.strip_prefix('[') {
        Some(bracketed) => {
            let address = bracketed.strip_suffix(']').ok_or(UrlError::Host)?;
            address.parse::<Ipv6Addr>().map_err(|_| UrlError::Host)?;
            address
        }
        None => host,
    };
    let is_name = !host.is_empty()
        && host
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b".-_".contains(&byte));
    if !is_name && host.parse::<Ipv6Addr>().is_err() {
        return Err(UrlError::Host);
    }
    if host.contains(':') && !text.starts_with('[') {
        return Err(UrlError::Host);
    }
    Ok(Endpoint::Tcp {
        host: host.to_owned(),
        port,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn urls_are_a_scheme_with_host_and_port_or_a_socket() {
        let good = [
            "http://localhost:2379",
            "https://10.0.0.1:2380",
            "http://[::1]:2379",
            "http://node-1.example.com:1",
            "http://0.0.0.0:0",
            "unix:///run/metastore.sock",
            "unixs://localhost:m1",
        ];
        for text in good {
            assert_eq!(
                text.parse::<Url>().map(|url| url.to_string()),
                Ok(text.to_owned()),
                "{text}"
            );
        }
    }

    #[test]
    fn malformed_urls_are_refused_with_their_fault() {
        let bad = [
            ("", UrlError::Scheme),
            ("localhost:2379", UrlError::Scheme),
            ("ftp://localhost:2379", UrlError::Scheme),
            ("http://", UrlError::Port),
            ("http://localhost", UrlError::Port),
            ("http://localhost:", UrlError::Port),
            ("http://localhost:65536", UrlError::Port),
            ("http://localhost:+80", UrlError::Port),
            ("http://:2379", UrlError::Host),
            ("http://::1:2379", UrlError::Host),
            ("http://[::1:2379", UrlError::Host),
            ("http://[localhost]:2379", UrlError::Host),
            ("http://a b:2379", UrlError::Host),
            ("http://localhost:2379/", UrlError::Excess),
            ("http://localhost:2379/path", UrlError::Excess),
            ("http://me@localhost:2379", UrlError::Excess),
            ("unix://", UrlError::SocketPath),
        ];
        for (text, expected) in bad {
            assert_eq!(text.parse::<Url>(), Err(expected), "{text}");
        }
    }

    #[test]
    fn only_ip_addresses_and_localhost_have_a_socket_address() {
        let address = |text: &str| {
            text.parse::<Url>()
                .unwrap()
                .socket_address()
                .map(|a| a.to_string())
        };
        assert_eq!(
            address("http://localhost:2379").as_deref(),
            Some("127.0.0.1:2379")
        );
        assert_eq!(address("http://[::]:1").as_deref(), Some("[::]:1"));
        assert_eq!(address("http://example.com:2379"), None);
        assert_eq!(address("unix:///a"), None);
    }

    #[test]
    fn lists_are_sorted_and_collapse_duplicates() {
        let urls = parse_list("http://b:2, http://a:1,http://b:2").unwrap();
        assert_eq!(
            urls.iter().map(Url::to_string).collect::<Vec<_>>(),
            ["http://a:1", "http://b:2"]
        );
        assert_eq!(
            parse_list("http://a:1,nonsense"),
            Err(("nonsense".to_owned(), UrlError::Scheme))
        );
    }

    proptest! {
        #[test]
        fn what_parses_prints_as_something_equal(text in "(http|https|unix)://[a-z0-9.:\\[\\]/@-]{0,20}") {
            if let Ok(url) = text.parse::<Url>() {
                prop_assert_eq!(url.to_string().parse::<Url>(), Ok(url));
            }
        }
    }
}
