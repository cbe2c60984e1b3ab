//! Bridges in the caller's own namespace: what a passthrough endpoint sends its packets through.

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{
    BridgeStpState, InfoBridge, InfoData, InfoKind, LinkAttribute, LinkInfo, LinkMessage,
};
use nsm_model::ifname::IfName;
use nsm_model::mechanism::Mtu;

use crate::error::KernelError;
use crate::messages;
use crate::netlink::Request;
use crate::setup::Own;

impl Own {
    /// Makes a bridge be there and up: no address of its own, no spanning tree, this MTU.
    ///
    /// # Errors
    /// The kernel's; EEXIST when another kind of interface has the name shows as a refused port
    /// later.
    pub fn ensure_bridge(&mut self, name: &IfName, mtu: Mtu) -> Result<(), KernelError> {
        let mut link = LinkMessage::default();
        let data = vec![
            InfoBridge::StpState(BridgeStpState::Disabled),
            // Nobody asks for group memberships here, and neighbour discovery must pass.
            InfoBridge::MulticastSnooping(false),
        ];
        link.attributes = vec![
            LinkAttribute::IfName(name.to_string()),
            LinkAttribute::Mtu(mtu.get()),
            LinkAttribute::LinkInfo(vec![
                LinkInfo::Kind(InfoKind::Bridge),
                LinkInfo::Data(InfoData::Bridge(data)),
            ]),
        ];
        let create = RouteNetlinkMessage::NewLink(link);
        let create = Request::new(
            "create bridge",
            name.as_str(),
            NLM_F_CREATE | NLM_F_EXCL,
            create,
        );
        match self.socket.execute(&[create]) {
            Err(error) if error.errno != libc::EEXIST => return Err(error),
            _ => {}
        }
        let index = self.index(name)?;
        self.socket.execute(&[
            messages::no_addresses(index, name.to_string()),
            messages::set_up(index, true, name.as_str()),
        ])
    }

    /// Makes an interface a port of a bridge.
    ///
    /// # Errors
    /// ENODEV when one of them is missing.
    pub fn enslave(&mut self, bridge: &IfName, port: &IfName) -> Result<(), KernelError> {
        let mut link = LinkMessage::default();
        link.attributes = vec![LinkAttribute::Controller(self.index(bridge)?)];
        link.header.index = self.index(port)?;
        let object = format!("{port} to {bridge}");
        self.socket.execute(&[Request::new(
            "add port",
            object,
            0,
            RouteNetlinkMessage::SetLink(link),
        )])
    }

    /// Deletes a bridge; its ports stay. No such bridge is a success.
    ///
    /// # Errors
    /// The kernel's.
    pub fn delete_bridge(&mut self, name: &IfName) -> Result<(), KernelError> {
        self.delete(name)
    }
}
