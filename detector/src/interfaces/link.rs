//! Owns the decision whether a link leads to a pod: pure, from what netlink says of it.

use rtnetlink::packet_route::link::{InfoKind, LinkAttribute, LinkInfo, LinkMessage};

use super::pattern::Select;

/// What is needed of a link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Its index.
    pub ifindex: u32,
    /// Its name.
    pub name: String,
    /// Whether it is a veth.
    pub veth: bool,
    /// Whether its peer is in another network namespace.
    pub peer_elsewhere: bool,
}

impl From<&LinkMessage> for Link {
    fn from(message: &LinkMessage) -> Self {
        let mut link =
            Self { ifindex: message.header.index, name: String::new(), veth: false, peer_elsewhere: false };
        for attribute in &message.attributes {
            match attribute {
                LinkAttribute::IfName(name) => link.name.clone_from(name),
                LinkAttribute::LinkNetNsId(_) => link.peer_elsewhere = true,
                LinkAttribute::LinkInfo(infos) => {
                    link.veth = infos.iter().any(|info| matches!(info, LinkInfo::Kind(InfoKind::Veth)));
                }
                _ => {}
            }
        }
        link
    }
}

/// The name of a pod interface; `None` for any other link.
///
/// A veth whose peer is in another namespace leads to a pod, or to a container at least; the veth pairs that
/// a CNI keeps within the host (`cilium_host`, for instance) have no such peer.
#[must_use]
pub fn decide<'a>(link: &'a Link, select: &Select) -> Option<&'a str> {
    let chosen = match select {
        Select::Auto => link.veth && link.peer_elsewhere,
        Select::Patterns(patterns) => patterns.iter().any(|pattern| pattern.matches(&link.name)),
    };
    (chosen && !link.name.is_empty()).then_some(link.name.as_str())
}

#[cfg(test)]
mod tests {
    use super::{Link, Select, decide};

    fn link(name: &str, veth: bool, peer_elsewhere: bool) -> Link {
        Link { ifindex: 2, name: name.to_owned(), veth, peer_elsewhere }
    }

    #[test]
    fn auto_takes_veths_with_their_peer_in_another_namespace_and_nothing_else() {
        for (link, taken) in [
            (link("veth1a2b", true, true), true),
            (link("cilium_host", true, false), false),
            (link("eth0", false, false), false),
            (link("vlan7", false, true), false),
        ] {
            assert_eq!(decide(&link, &Select::Auto).is_some(), taken, "{link:?}");
        }
    }

    #[test]
    fn patterns_take_by_name_alone() {
        let select: Select = "cali*,eni*".parse().unwrap();
        assert_eq!(decide(&link("cali123", false, false), &select), Some("cali123"));
        assert_eq!(decide(&link("veth1", true, true), &select), None);
    }
}
