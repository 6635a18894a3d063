//! Owns the words of a verdict: what a connection is, and which protocol a plaintext one speaks.
//!
//! In memory that both halves share, a verdict and a protocol are one byte each; a byte that names
//! neither is an error on reading, never a default.

/// What a connection is on the wire.
#[derive(Clone, Copy, Debug, Default, Hash, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Verdict {
    /// No payload yet, or too little to tell.
    #[default]
    Undecided = 0,
    /// Neither TLS nor a plaintext protocol that is known: nothing is claimed about it.
    Opaque = 1,
    /// TLS that no mesh is known to have made.
    Tls = 2,
    /// Mutual TLS of a service mesh, by ALPN, by SNI or by the HBONE port.
    MeshMtls = 3,
    /// Affirmative evidence of a plaintext protocol.
    Plaintext = 4,
}

/// The protocol that a plaintext connection speaks.
#[derive(Clone, Copy, Debug, Default, Hash, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Protocol {
    /// None is known: the verdict is not plaintext.
    #[default]
    None = 0,
    /// HTTP/1.0 or HTTP/1.1 (RFC 9112).
    Http1 = 1,
    /// HTTP/2 with prior knowledge, by its connection preface (RFC 9113 §3.4).
    H2c = 2,
    /// JSON-RPC that is not known to be MCP.
    JsonRpc = 3,
    /// The Model Context Protocol.
    Mcp = 4,
    /// Redis, by RESP.
    Redis = 16,
    /// PostgreSQL, by its start-up message or its server's first answer.
    Postgresql = 17,
    /// MySQL or MariaDB, by its server's greeting.
    Mysql = 18,
    /// MongoDB, by the opcode of its first message.
    Mongodb = 19,
    /// AMQP, by its protocol header.
    Amqp = 20,
    /// NATS, by `INFO` or `CONNECT`.
    Nats = 21,
    /// Kafka, by the header of its first request.
    Kafka = 22,
    /// MQTT, by `CONNECT`.
    Mqtt = 23,
    /// Memcached, by a command of its text protocol.
    Memcached = 24,
    /// ZooKeeper, by its connect request or a four-letter word.
    Zookeeper = 25,
    /// Cassandra, by the header of its first CQL frame.
    Cassandra = 26,
    /// LDAP, by its first message.
    Ldap = 27,
    /// SMTP, without STARTTLS.
    Smtp = 28,
    /// IMAP, without STARTTLS.
    Imap = 30,
    /// POP3, without STLS.
    Pop3 = 31,
    /// FTP, without AUTH TLS.
    Ftp = 29,
    /// XMPP, without STARTTLS.
    Xmpp = 32,
}

/// A byte from shared memory that names no verdict or protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownCode(pub u8);

impl Verdict {
    /// The verdict's name in logs, metrics and tables.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Undecided => "undecided",
            Self::Opaque => "opaque",
            Self::Tls => "tls",
            Self::MeshMtls => "mesh-mtls",
            Self::Plaintext => "plaintext",
        }
    }
}

impl TryFrom<u8> for Verdict {
    type Error = UnknownCode;

    fn try_from(code: u8) -> Result<Self, UnknownCode> {
        Ok(match code {
            0 => Self::Undecided,
            1 => Self::Opaque,
            2 => Self::Tls,
            3 => Self::MeshMtls,
            4 => Self::Plaintext,
            _ => return Err(UnknownCode(code)),
        })
    }
}

impl Protocol {
    /// Whether the protocol of this code is told by a client's first message, before it logs in.
    #[inline(always)]
    #[must_use]
    pub(crate) const fn is_introduced(code: u8) -> bool {
        code == Self::Kafka as u8 || code == Self::Cassandra as u8
    }

    /// The protocol's name in logs, metrics and tables.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Http1 => "http1",
            Self::H2c => "h2c",
            Self::JsonRpc => "jsonrpc",
            Self::Mcp => "mcp",
            Self::Redis => "redis",
            Self::Postgresql => "postgresql",
            Self::Mysql => "mysql",
            Self::Mongodb => "mongodb",
            Self::Amqp => "amqp",
            Self::Nats => "nats",
            Self::Kafka => "kafka",
            Self::Mqtt => "mqtt",
            Self::Memcached => "memcached",
            Self::Zookeeper => "zookeeper",
            Self::Cassandra => "cassandra",
            Self::Ldap => "ldap",
            Self::Smtp => "smtp",
            Self::Imap => "imap",
            Self::Pop3 => "pop3",
            Self::Ftp => "ftp",
            Self::Xmpp => "xmpp",
        }
    }
}

impl TryFrom<u8> for Protocol {
    type Error = UnknownCode;

    fn try_from(code: u8) -> Result<Self, UnknownCode> {
        Ok(match code {
            0 => Self::None,
            1 => Self::Http1,
            2 => Self::H2c,
            3 => Self::JsonRpc,
            4 => Self::Mcp,
            16 => Self::Redis,
            17 => Self::Postgresql,
            18 => Self::Mysql,
            19 => Self::Mongodb,
            20 => Self::Amqp,
            21 => Self::Nats,
            22 => Self::Kafka,
            23 => Self::Mqtt,
            24 => Self::Memcached,
            25 => Self::Zookeeper,
            26 => Self::Cassandra,
            27 => Self::Ldap,
            28 => Self::Smtp,
            30 => Self::Imap,
            31 => Self::Pop3,
            29 => Self::Ftp,
            32 => Self::Xmpp,
            _ => return Err(UnknownCode(code)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{Protocol, UnknownCode, Verdict};

    #[test]
    fn every_byte_is_the_code_that_it_names_or_an_error() {
        for code in 0..=u8::MAX {
            match Verdict::try_from(code) {
                Ok(verdict) => assert_eq!(verdict as u8, code),
                Err(error) => assert_eq!(error, UnknownCode(code)),
            }
            match Protocol::try_from(code) {
                Ok(protocol) => assert_eq!(protocol as u8, code),
                Err(error) => assert_eq!(error, UnknownCode(code)),
            }
        }
    }
}
