//! From where we are to a VM's end on another host.

use super::{Address, EndpointSpec, Role, SshHop, is_loopback};
use crate::model::host::HostRef;
use crate::model::profile::Tunnel;

impl Address {
    /// Tells whether such a stream can be carried through SSH (`via=`).
    pub fn takes_via(&self) -> bool {
        matches!(
            self,
            Self::Unix(_) | Self::Tcp { .. } | Self::Pipe { .. } | Self::Pty { .. } | Self::Tty { .. }
        )
    }
}

impl EndpointSpec {
    /// Returns our side of a VM's end as its host sees it: the other role, and the way through SSH to what only that host
    /// can reach (its sockets, devices, pipes and loopback addresses), with `tunnel` to every TCP port. One that comes to us has
    /// no such way, and one that has a way already keeps it.
    #[must_use]
    pub fn our_side(&self, host: &HostRef, tunnel: Option<Tunnel>) -> Self {
        let mut ours = self.other_side();
        let HostRef::Ssh(destination) = host else {
            return ours;
        };
        if !ours.via.is_empty() || ours.role == Some(Role::Listen) || !ours.address.takes_via() {
            return ours;
        }
        match &mut ours.address {
            Address::Tcp { host, .. } if is_loopback(host) => {}
            Address::Tcp { host, .. } if tunnel.is_some() => match host.as_str() {
                // Nobody connects to all addresses: the host's own are among them.
                "0.0.0.0" => "127.0.0.1".clone_into(host),
                "::" => "::1".clone_into(host),
                _ => {}
            },
            Address::Tcp { .. } | Address::Pipe { host: Some(_), .. } => return ours,
            _ => {}
        }
        ours.via.push(SshHop(destination.clone()));
        ours
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn what_only_the_host_reaches_goes_through_ssh() {
        let far = HostRef::Ssh("root@h:2222".to_owned());
        let ours = |text: &str, host: &HostRef, tunnel| {
            let endpoint: EndpointSpec = text.parse().unwrap();
            endpoint.our_side(host, tunnel).to_string()
        };
        for (theirs, expected) in [
            ("listen:unix:/x", "connect:unix:/x,via=root@h:2222"),
            (
                "listen:tcp:127.0.0.1:7001",
                "connect:tcp:127.0.0.1:7001,via=root@h:2222",
            ),
            ("listen:tcp:[::1]:7001", "connect:tcp:[::1]:7001,via=root@h:2222"),
            ("listen:tcp:10.0.0.7:7001", "connect:tcp:10.0.0.7:7001"),
            ("listen:pipe:x", "connect:pipe:x,via=root@h:2222"),
            ("tty:/dev/pts/3", "tty:/dev/pts/3,via=root@h:2222"),
            ("connect:tcp:127.0.0.1:7001", "listen:tcp:127.0.0.1:7001"),
            ("listen:telnet:127.0.0.1:7001", "connect:telnet:127.0.0.1:7001"),
            ("listen:unix:/x,via=other", "connect:unix:/x,via=other"),
        ] {
            assert_eq!(ours(theirs, &far, None), expected);
            let plain: EndpointSpec = theirs.parse().unwrap();
            let here = ours(theirs, &HostRef::Local, None);
            assert_eq!(here, plain.other_side().to_string());
        }
        for (theirs, expected) in [
            (
                "listen:tcp:0.0.0.0:7001",
                "connect:tcp:127.0.0.1:7001,via=root@h:2222",
            ),
            ("listen:tcp:[::]:7001", "connect:tcp:[::1]:7001,via=root@h:2222"),
            (
                "listen:tcp:10.0.0.7:7001",
                "connect:tcp:10.0.0.7:7001,via=root@h:2222",
            ),
            ("listen:unix:/x", "connect:unix:/x,via=root@h:2222"),
        ] {
            assert_eq!(ours(theirs, &far, Some(Tunnel::Ssh)), expected);
        }
    }
}
