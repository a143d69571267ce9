//! `[[listener]]`: where MQTT clients connect, and `[admin]`: where health, metrics and status
//! are served.
//!
//! Invariants: there is at least one listener; an address that is reachable from the network is
//! bound only where the owner wrote that everybody may come in; the admin address is loopback; no
//! two of them claim the same address and port.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use crate::board::{BoardDefaults, GENERIC};
use crate::found::Found;
use crate::problem::Located;
use crate::report::Report;
use crate::schema::{ChoiceKey, CountKey, FlagKey, Schema, Shape, TableKey, TextKey};
use crate::section::Section;
use crate::value::parse_bind;

/// Most listeners in one file. Each costs an accept loop and its connections.
const LISTENERS_MAX: usize = 64;

/// One address that MQTT clients connect to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenerConfig {
    /// What is spoken there.
    pub kind: ListenerKind,
    /// Address and TCP port; port 0 lets the operating system choose a free one.
    pub bind: Located<SocketAddr>,
    /// The owner wrote that clients need no identity here. Ask [`Self::admits_anonymous`] who
    /// may come in.
    pub allow_anonymous: bool,
    /// Most connections at one time, in all stages of their life.
    pub connections_max: u32,
}

impl ListenerConfig {
    /// Whether a client without an identity is let in: where the owner allowed it, and on
    /// loopback always.
    #[must_use]
    pub fn admits_anonymous(&self) -> bool {
        self.allow_anonymous || is_loopback(*self.bind)
    }
}

impl ListenerConfig {
    /// The listener of a gateway without any: this machine only, MQTT's registered port.
    pub(crate) fn of(board: &BoardDefaults) -> Self {
        Self {
            kind: ListenerKind::Mqtt,
            bind: Located::nowhere(LISTENER_BIND_DEFAULT),
            allow_anonymous: true,
            connections_max: board.connections_max,
        }
    }
}

impl Default for ListenerConfig {
    fn default() -> Self {
        Self::of(&GENERIC)
    }
}

/// What is spoken at a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListenerKind {
    /// MQTT over plain TCP.
    Mqtt,
}

/// Where health, metrics and status are served over HTTP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdminConfig {
    /// Whether they are served at all.
    pub enabled: bool,
    /// Address and TCP port, loopback; port 0 lets the operating system choose a free one.
    pub bind: Located<SocketAddr>,
}

impl Default for AdminConfig {
    fn default() -> Self {
        Self {
            enabled: ENABLED.default,
            bind: Located::nowhere(ADMIN_BIND_DEFAULT),
        }
    }
}

const LISTENER_BIND_DEFAULT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 1883);
const ADMIN_BIND_DEFAULT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9080);

static KIND: ChoiceKey<ListenerKind> = ChoiceKey {
    name: "kind",
    choices: &[("mqtt", ListenerKind::Mqtt)],
    later: &["mqtts", "ws", "wss", "quic"],
};
static LISTENER_BIND: TextKey = TextKey {
    name: "bind",
    allowed: r#"an IP address and a port such as "127.0.0.1:1883" or "[::1]:1883""#,
    default: r#""127.0.0.1:1883""#,
};
static ALLOW_ANONYMOUS: FlagKey = FlagKey {
    name: "allow_anonymous",
    default: false,
};
static CONNECTIONS_MAX: CountKey<u32> = CountKey {
    name: "connections_max",
    min: 1,
    max: 100_000,
    default: GENERIC.connections_max,
};

pub(crate) static LISTENER: TableKey = TableKey {
    name: "listener",
    shape: Shape::List,
    schema: &Schema {
        keys: &[&KIND, &LISTENER_BIND, &ALLOW_ANONYMOUS, &CONNECTIONS_MAX],
        tables: &[],
        later: &["acl", "auth", "origins", "path", "protocol_levels", "tls"],
    },
};

static ENABLED: FlagKey = FlagKey {
    name: "enabled",
    default: true,
};
static ADMIN_BIND: TextKey = TextKey {
    name: "bind",
    allowed: r#"a loopback IP address and a port such as "127.0.0.1:9080" or "[::1]:9080""#,
    default: r#""127.0.0.1:9080""#,
};

pub(crate) static ADMIN: TableKey = TableKey {
    name: "admin",
    shape: Shape::One,
    schema: &Schema {
        keys: &[&ENABLED, &ADMIN_BIND],
        tables: &[],
        later: &["auth", "tls"],
    },
};

/// The addresses that are claimed so far, each with the path of its key.
#[derive(Default)]
pub(crate) struct Claims(Vec<(String, Located<SocketAddr>)>);

impl Claims {
    /// Reports each address that was claimed before, at the later of the two places.
    pub(crate) fn check(mut self, report: &Report<'_>) {
        self.0.sort_by_key(|(_, bind)| bind.position);
        for (index, (path, bind)) in self.0.iter().enumerate() {
            let earlier = self
                .0
                .iter()
                .take(index)
                .find(|(_, other)| collide(**bind, **other));
            if let (Some((other_path, other)), Some(position)) = (earlier, bind.position) {
                let place = other.place();
                let message = format!(
                    "found \"{bind}\", but {other_path} is \"{other}\" ({place}); allowed: an \
                     address and port of its own"
                );
                report.problem_at(position, path, message);
            }
        }
    }
}

/// Whether binding one address makes binding the other fail. An address of all interfaces
/// collides within its family only: whether `[::]` takes IPv4 too is a setting of the system.
fn collide(a: SocketAddr, b: SocketAddr) -> bool {
    let (a_ip, b_ip) = (a.ip().to_canonical(), b.ip().to_canonical());
    let is_any = a_ip.is_unspecified() || b_ip.is_unspecified();
    let is_chosen_later = a.port() == 0;
    let same_address = a_ip == b_ip || is_any && a_ip.is_ipv4() == b_ip.is_ipv4();
    a.port() == b.port() && same_address && !is_chosen_later
}

fn is_loopback(bind: SocketAddr) -> bool {
    bind.ip().to_canonical().is_loopback()
}

/// Reads all `[[listener]]` of the file.
pub(crate) fn read_listeners(
    file: &Section<'_>,
    claims: &mut Claims,
    board: &BoardDefaults,
) -> Option<Vec<ListenerConfig>> {
    match file.tables(&LISTENER, LISTENERS_MAX) {
        Found::Absent => {
            let listener = ListenerConfig::of(board);
            claims
                .0
                .push(("listener[0].bind".to_owned(), listener.bind));
            Some(vec![listener])
        }
        Found::Refused => None,
        Found::Value(sections) => {
            let listeners: Vec<_> = sections
                .iter()
                .map(|section| read_listener(section, claims, board))
                .collect();
            listeners.into_iter().collect()
        }
    }
}

fn read_listener(
    section: &Section<'_>,
    claims: &mut Claims,
    board: &BoardDefaults,
) -> Option<ListenerConfig> {
    let kind = section.choice(&KIND);
    let bind = section
        .text(&LISTENER_BIND, parse_bind)
        .or(|| Located::nowhere(LISTENER_BIND_DEFAULT));
    let allow_anonymous = section.flag(&ALLOW_ANONYMOUS);
    let connections_max = section.count_or(&CONNECTIONS_MAX, board.connections_max);
    let bind = bind?;
    claims.0.push((section.path_of(LISTENER_BIND.name), bind));
    let allow_anonymous = allow_anonymous?;
    if !allow_anonymous && !is_loopback(*bind) {
        let message = format!(
            "found \"{bind}\", which the network can reach, and this version cannot ask clients \
             who they are; allowed: a loopback address such as \"127.0.0.1:{}\", or \
             `allow_anonymous = true` in this listener to let everybody in",
            bind.port()
        );
        section.conflict(LISTENER_BIND.name, message);
    }
    Some(ListenerConfig {
        kind: kind?,
        bind,
        allow_anonymous,
        connections_max: connections_max?,
    })
}

/// Reads `[admin]`.
pub(crate) fn read_admin(file: &Section<'_>, claims: &mut Claims) -> Option<AdminConfig> {
    let section = match file.table(&ADMIN) {
        Found::Absent => {
            let admin = AdminConfig::default();
            claims.0.push(("admin.bind".to_owned(), admin.bind));
            return Some(admin);
        }
        Found::Refused => return None,
        Found::Value(section) => section,
    };
    let enabled = section.flag(&ENABLED);
    let bind = section
        .text(&ADMIN_BIND, parse_bind)
        .or(|| Located::nowhere(ADMIN_BIND_DEFAULT))?;
    if !is_loopback(*bind) {
        let message = format!(
            "found \"{bind}\", which the network can reach, and this version cannot ask who is \
             there; allowed: a loopback address such as \"127.0.0.1:{}\"",
            bind.port()
        );
        section.conflict(ADMIN_BIND.name, message);
    }
    let enabled = enabled?;
    if enabled {
        claims.0.push((section.path_of(ADMIN_BIND.name), bind));
    }
    Some(AdminConfig { enabled, bind })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn collides(a: &str, b: &str) -> bool {
        let (a, b) = (a.parse().unwrap(), b.parse().unwrap());
        assert_eq!(collide(a, b), collide(b, a));
        collide(a, b)
    }

    #[test]
    fn addresses_collide_when_the_second_bind_would_fail() {
        assert!(collides("127.0.0.1:1883", "127.0.0.1:1883"));
        assert!(collides("0.0.0.0:1883", "192.0.2.1:1883"));
        assert!(collides("[::]:1883", "[2001:db8::1]:1883"));
        assert!(collides("[::ffff:127.0.0.1]:1883", "127.0.0.1:1883"));
        assert!(!collides("127.0.0.1:1883", "127.0.0.1:1884"));
        assert!(!collides("127.0.0.1:1883", "127.0.0.2:1883"));
        assert!(!collides("127.0.0.1:0", "127.0.0.1:0"));
        assert!(!collides("0.0.0.0:1883", "[::]:1883"));
    }

    #[test]
    fn loopback_admits_anonymous_clients_whatever_stands_there() {
        let listener = |bind: &str, allow_anonymous| ListenerConfig {
            bind: Located::nowhere(bind.parse().unwrap()),
            allow_anonymous,
            ..ListenerConfig::default()
        };
        assert!(listener("127.0.0.1:1883", false).admits_anonymous());
        assert!(listener("[::1]:1883", false).admits_anonymous());
        assert!(listener("[::ffff:127.0.0.1]:1883", false).admits_anonymous());
        assert!(!listener("0.0.0.0:1883", false).admits_anonymous());
        assert!(listener("0.0.0.0:1883", true).admits_anonymous());
    }
}
