//! A path as a picture: nodes as frames, stations as boxes, mechanisms between them.

/// A station of the path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Station {
    pub(crate) name: String,
    pub(crate) node: String,
    /// What leads to the next one; of the last one nothing.
    pub(crate) mechanism: String,
}

/// The stations of a path, with what lies between them: a connection's hops are whoever asks, its
/// manager, a forwarder, for another node also that one's manager and forwarder, whoever is asked,
/// and so on.
pub(crate) fn stations(hops: &[String], node_of: impl Fn(&str) -> Option<String>) -> Vec<Station> {
    let mut stations: Vec<Station> = Vec::new();
    let mut forwarders = 0;
    for hop in hops {
        let Some(node) = node_of(hop) else {
            forwarders += usize::from(hop.starts_with("forwarder"));
            continue;
        };
        if let Some(before) = stations.last_mut() {
            let mechanism = if forwarders > 1 { "VXLAN" } else { "veth" };
            mechanism.clone_into(&mut before.mechanism);
        }
        forwarders = 0;
        stations.push(Station {
            name: hop.clone(),
            node,
            mechanism: String::new(),
        });
    }
    stations
}

/// Draws the stations from left to right.
pub(crate) fn draw(stations: &[Station]) -> [String; 5] {
    let mut rows: [String; 5] = Default::default();
    let frames: Vec<&[Station]> = stations.chunk_by(|a, b| a.node == b.node).collect();
    for (at, frame) in frames.iter().enumerate() {
        let (edges, boxes) = inner(frame);
        let (first, last) = (at == 0, at + 1 == frames.len());
        let width = boxes.len() + 6;
        let node = frame.first().map_or("", |one| one.node.as_str());
        rows[0] += &format!("{:-<1$}+", format!("+- {node} "), width - 1);
        rows[1] += &format!("|  {edges}  |");
        rows[2] += &format!(
            "{}{boxes}{}",
            if first { "|  " } else { "+--" },
            if last { "  |" } else { "--+" }
        );
        rows[3] += &format!("|  {edges}  |");
        rows[4] += &format!("{:-<1$}+", "+", width - 1);
        if let Some(end) = frame.last().filter(|_| !last) {
            let link = link(end);
            for (row, text) in rows.iter_mut().enumerate() {
                *text += &if row == 2 {
                    link.clone()
                } else {
                    " ".repeat(link.len())
                };
            }
        }
    }
    rows
}

/// The stations of one node: the upper and lower edges of their boxes, and the line between.
fn inner(frame: &[Station]) -> (String, String) {
    let (mut edges, mut boxes) = (String::new(), String::new());
    for (at, station) in frame.iter().enumerate() {
        if let Some(before) = at.checked_sub(1).and_then(|before| frame.get(before)) {
            let link = link(before);
            edges += &" ".repeat(link.len());
            boxes += &link;
        }
        edges += &format!("+{}+", "-".repeat(station.name.len() + 2));
        boxes += &format!("| {} |", station.name);
    }
    (edges, boxes)
}

fn link(station: &Station) -> String {
    format!("-- {} --", station.mechanism)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node_of(name: &str) -> Option<String> {
        let node = match name {
            "client" | "firewall" | "gateway-1" => "node-1",
            "gateway-2" => "node-2",
            _ => return None,
        };
        Some(node.to_owned())
    }

    fn picture(hops: &str) -> String {
        let hops: Vec<String> = hops.split(' ').map(str::to_owned).collect();
        draw(&stations(&hops, node_of)).join("\n")
    }

    #[test]
    fn one_node_and_two() {
        let near =
            "client manager-node-1 forwarder-node-1 firewall manager-node-1 forwarder-node-1";
        let rows = [
            (
                format!("{near} gateway-1"),
                "\
+- node-1 --------------------------------------------------+
|  +--------+          +----------+          +-----------+  |
|  | client |-- veth --| firewall |-- veth --| gateway-1 |  |
|  +--------+          +----------+          +-----------+  |
+-----------------------------------------------------------+",
            ),
            (
                format!("{near} manager-node-2 forwarder-node-2 gateway-2"),
                "\
+- node-1 ---------------------------+           +- node-2 --------+
|  +--------+          +----------+  |           |  +-----------+  |
|  | client |-- veth --| firewall |--+-- VXLAN --+--| gateway-2 |  |
|  +--------+          +----------+  |           |  +-----------+  |
+------------------------------------+           +-----------------+",
            ),
        ];
        for (hops, expected) in rows {
            assert_eq!(picture(&hops), expected);
        }
    }
}
