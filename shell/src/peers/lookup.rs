//! Addresses of hosts that are named.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;

use tokio::net::lookup_host;
use tokio::sync::watch;
use tokio::task::spawn_local;

/// What a look-up found, once it has.
type Finding = Option<Result<Rc<[IpAddr]>, String>>;

thread_local! {
    /// Look-ups under way, by host.
    static UNDER_WAY: RefCell<BTreeMap<String, watch::Receiver<Finding>>> = const { RefCell::new(BTreeMap::new()) };
}

/// The addresses of a host, with this port. To be called within a `LocalSet`.
///
/// A look-up takes a thread, and cannot be given up: a name server that does not answer would collect them, since who
/// waits tries again long before the system gives up. So there is one at a time for each host, and all wait for that.
pub(super) async fn addresses(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    let mut finding = find(host);
    // The sender ends without a word only where its thread ends.
    let found = finding.wait_for(Option::is_some).await;
    let found = found.map_err(io::Error::other)?.clone();
    let addresses = found.unwrap_or_else(|| Err("no answer".to_owned()));
    let addresses = addresses.map_err(io::Error::other)?;
    let addresses = addresses.iter().map(|ip| SocketAddr::new(*ip, port));
    Ok(addresses.collect())
}

fn find(host: &str) -> watch::Receiver<Finding> {
    UNDER_WAY.with_borrow_mut(|under_way| {
        if let Some(finding) = under_way.get(host)
            && finding.has_changed().is_ok()
        {
            return finding.clone();
        }
        let (sender, receiver) = watch::channel(None);
        under_way.insert(host.to_owned(), receiver.clone());
        spawn_local(look_up(host.to_owned(), sender));
        receiver
    })
}

async fn look_up(host: String, finding: watch::Sender<Finding>) {
    let found = match lookup_host((host.as_str(), 0)).await {
        Ok(addresses) => Ok(addresses.map(|address| address.ip()).collect()),
        Err(error) => Err(error.to_string()),
    };
    UNDER_WAY.with_borrow_mut(|under_way| under_way.remove(&host));
    // Whoever waited may have gone.
    let _ = finding.send(Some(found));
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::super::local::on_one_thread;
    use super::*;

    fn under_way() -> usize {
        UNDER_WAY.with_borrow(BTreeMap::len)
    }

    #[test]
    fn a_host_is_looked_up_once_for_all_who_wait_and_anew_for_who_comes_later() {
        on_one_thread(async {
            let (one, two) = (find("localhost"), find("localhost"));
            assert!(one.same_channel(&two));
            assert_eq!(under_way(), 1);
            let found = addresses("localhost", 7).await.expect("it has addresses");
            assert!(
                found.contains(&(Ipv4Addr::LOCALHOST, 7).into()),
                "{found:?}"
            );
            assert_eq!(under_way(), 0);
            assert!(!find("localhost").same_channel(&one));
        });
    }

    #[test]
    fn a_look_up_whose_runtime_ended_holds_up_nobody() {
        on_one_thread(async { drop(find("localhost")) });
        on_one_thread(async {
            let found = addresses("localhost", 7).await.expect("it has addresses");
            assert!(!found.is_empty());
        });
    }

    #[test]
    fn a_name_without_addresses_is_an_error() {
        on_one_thread(async {
            let found = addresses("no-such-host.invalid", 7).await;
            assert!(found.is_err(), "{found:?}");
        });
    }
}
