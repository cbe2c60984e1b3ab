//! The VXLAN mechanism: a tunnel between two nodes (RFC 7348).

use std::net::IpAddr;

use nsm_api::connection::Mechanism;

use super::{Kind, MechanismError, Mtu, Parity, Vni, expect_kind, keys, read, vni_parity, write};

/// What we read and write of a VXLAN mechanism. Source is the client's side.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Vxlan {
    /// Underlay address of the client's node.
    pub src_ip: Option<IpAddr>,
    /// Underlay address of the endpoint's node.
    pub dst_ip: Option<IpAddr>,
    /// UDP port where the client's node listens.
    pub src_port: Option<u16>,
    /// UDP port where the endpoint's node listens.
    pub dst_port: Option<u16>,
    /// The identifier, chosen by the endpoint's side.
    pub vni: Option<Vni>,
    /// Largest packet inside the tunnel.
    pub mtu: Option<Mtu>,
    /// `src_ip` before a proxy rewrote it.
    pub orig_src_ip: Option<IpAddr>,
    /// `dst_ip` before a proxy rewrote it.
    pub orig_dst_ip: Option<IpAddr>,
}

impl Vxlan {
    /// Reads a VXLAN mechanism; an error names the parameter.
    pub fn parse(mechanism: &Mechanism) -> Result<Self, MechanismError> {
        expect_kind(mechanism, Kind::Vxlan)?;
        Ok(Self {
            src_ip: read(mechanism, keys::SRC_IP)?,
            dst_ip: read(mechanism, keys::DST_IP)?,
            src_port: read(mechanism, keys::SRC_PORT)?,
            dst_port: read(mechanism, keys::DST_PORT)?,
            vni: read(mechanism, keys::VNI)?,
            mtu: read(mechanism, keys::MTU)?,
            orig_src_ip: read(mechanism, keys::ORIG_SRC_IP)?,
            orig_dst_ip: read(mechanism, keys::ORIG_DST_IP)?,
        })
    }

    /// Writes the known parameters; `None` leaves what the mechanism has.
    pub fn write(&self, mechanism: &mut Mechanism) {
        write(mechanism, keys::SRC_IP, self.src_ip.as_ref());
        write(mechanism, keys::DST_IP, self.dst_ip.as_ref());
        write(mechanism, keys::SRC_PORT, self.src_port.as_ref());
        write(mechanism, keys::DST_PORT, self.dst_port.as_ref());
        write(mechanism, keys::VNI, self.vni.as_ref());
        write(mechanism, keys::MTU, self.mtu.as_ref());
        write(mechanism, keys::ORIG_SRC_IP, self.orig_src_ip.as_ref());
        write(mechanism, keys::ORIG_DST_IP, self.orig_dst_ip.as_ref());
    }

    /// A new mechanism with these parameters.
    pub fn mechanism(&self) -> Mechanism {
        let mut mechanism = Kind::Vxlan.mechanism();
        self.write(&mut mechanism);
        mechanism
    }

    /// Which VNIs the endpoint's side may choose, once both addresses are known; addresses from
    /// before a proxy count where there are any.
    pub fn parity(&self) -> Option<Parity> {
        Some(vni_parity(
            self.orig_src_ip.or(self.src_ip)?,
            self.orig_dst_ip.or(self.dst_ip)?,
        ))
    }
}
