//! TCP ports on the loopback interface for nodes that are about to be started.

use std::fs::{File, OpenOptions};
use std::io;
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::ops::Range;

/// Below those that a system gives to outgoing connections (from 32768 on Linux): one of these would take a port between its
/// choice and its use.
const RANGE: Range<u16> = 20_000..32_000;

/// Ports that nobody listens on, and that no other network of this machine chooses while this lives.
#[derive(Debug)]
pub struct Ports {
    /// Their numbers.
    pub numbers: Vec<u16>,
    /// One lock file each.
    _locks: Vec<File>,
}

impl Ports {
    /// `count` different ports on 127.0.0.1 that are free for TCP and UDP (QUIC).
    ///
    /// Another program than podl may still take one before the node binds it; the node then says so in words.
    ///
    /// # Errors
    /// When there are not so many, or their lock files cannot be made.
    pub fn choose(count: usize) -> io::Result<Self> {
        let folder = std::env::temp_dir().join("podl-testnet-ports");
        std::fs::create_dir_all(&folder)?;
        // Processes that start together begin at different places.
        let first = usize::try_from(std::process::id()).unwrap_or(0).wrapping_mul(97) % RANGE.len();
        let mut chosen = Self { numbers: Vec::new(), _locks: Vec::new() };
        for port in RANGE.skip(first).chain(RANGE.take(first)) {
            if chosen.numbers.len() == count {
                return Ok(chosen);
            }
            // A file of another user is that user's port.
            let file = OpenOptions::new().create(true).append(true).open(folder.join(port.to_string()));
            if let Some(lock) = file.ok().filter(|file| file.try_lock().is_ok() && is_free(port)) {
                chosen.numbers.push(port);
                chosen._locks.push(lock);
            }
        }
        Err(io::Error::new(io::ErrorKind::AddrInUse, format!("fewer than {count} free ports in {RANGE:?}")))
    }
}

fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() && UdpSocket::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_that_start_together_have_ports_of_their_own() {
        let networks = [Ports::choose(20).unwrap(), Ports::choose(20).unwrap()];
        let mut all: Vec<u16> = networks.iter().flat_map(|ports| ports.numbers.clone()).collect();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), 40);
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, all[0]));
        assert!(taken.is_ok(), "chosen, and not held from the node");
        drop(networks);
        assert!(!is_free(all[0]), "somebody listens");
    }
}
