//! Free TCP ports on the loopback interface.

use std::io;
use std::net::{Ipv4Addr, TcpListener, UdpSocket};

/// `count` different ports on 127.0.0.1 that are free for TCP and UDP (QUIC) at this moment.
///
/// All are held at once while they are chosen, so none comes twice. Another program may still take one before the node
/// binds it; the node then says so in words and the network does not start.
///
/// # Errors
/// When the system has no free ports.
pub fn free_ports(count: usize) -> io::Result<Vec<u16>> {
    let mut held = Vec::new();
    while held.len() < count {
        let tcp = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let port = tcp.local_addr()?.port();
        if let Ok(udp) = UdpSocket::bind((Ipv4Addr::LOCALHOST, port)) {
            held.push((port, tcp, udp));
        }
    }
    Ok(held.iter().map(|(port, ..)| *port).collect())
}

#[cfg(test)]
mod tests {
    #[test]
    fn ports_are_distinct() {
        let mut ports = super::free_ports(20).unwrap();
        ports.sort_unstable();
        ports.dedup();
        assert_eq!(ports.len(), 20);
    }
}
