//! Owns what each token means: the evidence that it adds and what it does to its side.

use super::Head;
use crate::{automaton::Token, evidence::Evidence, flow::Side, method::METHODS, verdict::Protocol};

/// What a token does beside adding evidence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    None,
    /// A TLS hello follows.
    Hello,
    /// The stream is of this protocol, in plaintext for good.
    Named,
    /// Lines follow; the protocol may turn to TLS between them.
    Commands,
    /// The stream is of this protocol, and how it logs in follows at once.
    Introduced,
    /// The same behind the rest of this message, whose length was read.
    IntroducedBy,
    /// A greeting, after which TLS may follow, behind the rest of this message if its length was read.
    Greeting,
    /// Something before the stream's own beginning.
    Preamble,
    /// A byte of a length, the highest first.
    LengthByte,
    EndOfPreambleLength,
    /// The stream is TLS, and no more is read of it.
    Tls,
    /// The stream, or the message, begins with nothing known.
    Unknown,
    /// HTTP/2 frames follow.
    Preface,
    /// A head follows.
    Head,
    /// JSON texts without framing follow.
    Lines,
    LengthDigit,
    ChunkDigit,
    EndOfChunkSize,
    EndOfHead,
    /// Nothing in this content counts.
    Skip,
    /// A member of the message itself: it counts only at the depth of the message's own members.
    Member,
}

/// What a token means.
#[derive(Clone, Copy, Debug)]
pub(super) struct Meaning {
    pub(super) evidence: u64,
    pub(super) methods: u64,
    pub(super) head: u8,
    pub(super) protocol: u8,
    /// Bytes to pass over; of a message whose length was read, its bytes that are read already.
    pub(super) skip: u8,
    /// It says something where a stream begins, and nothing elsewhere.
    pub(super) opening: bool,
    pub(super) action: Action,
}

const NOTHING: Meaning =
    Meaning { evidence: 0, methods: 0, head: 0, protocol: 0, skip: 0, opening: false, action: Action::None };

/// Tokens that the table has room for; a power of two.
const TOKENS: usize = 256;

static MEANINGS: [Meaning; TOKENS] = meanings();

/// The meaning of a token.
#[inline(always)]
#[expect(clippy::indexing_slicing, reason = "a masked index is below the length")]
pub(super) fn meaning(token: u8) -> &'static Meaning {
    &MEANINGS[token as usize & (TOKENS - 1)]
}

/// The depth of brackets at which the message's own members stand.
#[inline(always)]
pub(super) const fn member_depth(side: &Side) -> u8 {
    if side.head & Head::BATCH != 0 { 2 } else { 1 }
}

const fn evidence(evidence: Evidence) -> Meaning {
    Meaning { evidence: evidence.0, ..NOTHING }
}

const fn action(action: Action) -> Meaning {
    Meaning { action, ..NOTHING }
}

const fn head(head: u8) -> Meaning {
    Meaning { head, ..NOTHING }
}

const fn hello(evidence: Evidence, head: u8) -> Meaning {
    Meaning { evidence: evidence.0, head, action: Action::Hello, ..NOTHING }
}

const fn named(protocol: Protocol) -> Meaning {
    Meaning { protocol: protocol as u8, action: Action::Named, ..NOTHING }
}

const fn password(protocol: Protocol) -> Meaning {
    Meaning { evidence: Evidence::PASSWORD.0, ..named(protocol) }
}

/// What only a stream's beginning says.
const fn opening(meaning: Meaning) -> Meaning {
    Meaning { opening: true, ..meaning }
}

const fn introduced(protocol: Protocol, action: Action, skip: u8) -> Meaning {
    Meaning { protocol: protocol as u8, skip, action, ..NOTHING }
}

const fn commands(protocol: Protocol) -> Meaning {
    Meaning { protocol: protocol as u8, action: Action::Commands, ..NOTHING }
}

const fn preamble(skip: u8) -> Meaning {
    Meaning { skip, action: Action::Preamble, ..NOTHING }
}

const fn member(evidence: Evidence, methods: u64) -> Meaning {
    Meaning { evidence: evidence.0, methods, action: Action::Member, ..NOTHING }
}

#[expect(clippy::indexing_slicing, reason = "evaluated by the compiler, where a wrong index is an error")]
const fn meanings() -> [Meaning; TOKENS] {
    let mut table = [NOTHING; TOKENS];
    let request = Meaning { evidence: Evidence::HTTP_REQUEST.0, head: 0, action: Action::Head, ..NOTHING };
    let response = Meaning {
        evidence: Evidence::HTTP_RESPONSE.0,
        head: Head::RESPONSE,
        action: Action::Head,
        ..NOTHING
    };
    let lines = Meaning { evidence: Evidence::RAW_JSON.0, head: 0, action: Action::Lines, ..NOTHING };
    let entries: [(Token, Meaning); 89] = [
        (Token::TlsClientHello, hello(Evidence::OFFERS_TLS12, Head::CLIENT)),
        (Token::TlsClientHelloWeak, hello(Evidence::OFFERS_WEAK, Head::CLIENT)),
        (Token::TlsServerHello, hello(Evidence::NONE, 0)),
        (Token::TlsServerHelloWeak, hello(Evidence::CHOSE_WEAK, 0)),
        (Token::TlsAlert, Meaning { evidence: Evidence::TLS_ALERT.0, ..action(Action::Tls) }),
        (Token::RedisArray, named(Protocol::Redis)),
        (Token::PostgresStartup, opening(named(Protocol::Postgresql))),
        (Token::PostgresSslRequest, opening(preamble(0))),
        (Token::MysqlGreeting, opening(commands(Protocol::Mysql))),
        (Token::MysqlSslRequest, opening(preamble(32))),
        (Token::MysqlPassword, password(Protocol::Mysql)),
        (Token::MongoMessage, named(Protocol::Mongodb)),
        (Token::AmqpHeader, opening(named(Protocol::Amqp))),
        (Token::NatsLine, opening(named(Protocol::Nats))),
        (Token::KafkaRequest, named(Protocol::Kafka)),
        (Token::KafkaVersions, introduced(Protocol::Kafka, Action::IntroducedBy, 11)),
        (Token::KafkaPlain, introduced(Protocol::Kafka, Action::Introduced, 0)),
        (Token::KafkaPassword, password(Protocol::Kafka)),
        (Token::MqttConnect, opening(named(Protocol::Mqtt))),
        (Token::MemcachedCommand, named(Protocol::Memcached)),
        (Token::MemcachedOpening, opening(named(Protocol::Memcached))),
        (Token::ZookeeperConnect, opening(named(Protocol::Zookeeper))),
        (Token::CassandraOptions, opening(introduced(Protocol::Cassandra, Action::IntroducedBy, 0))),
        (Token::CassandraStartup, opening(introduced(Protocol::Cassandra, Action::IntroducedBy, 5))),
        (Token::CassandraPassword, opening(password(Protocol::Cassandra))),
        (Token::LdapMessage, opening(named(Protocol::Ldap))),
        (
            Token::LdapExtended,
            opening(Meaning { protocol: Protocol::Ldap as u8, skip: 4, action: Action::Greeting, ..NOTHING }),
        ),
        (Token::Greeting220, opening(commands(Protocol::Smtp))),
        (Token::ImapGreeting, opening(commands(Protocol::Imap))),
        (Token::Pop3Greeting, opening(commands(Protocol::Pop3))),
        (Token::SmtpHello, opening(commands(Protocol::Smtp))),
        (Token::FtpUser, opening(commands(Protocol::Ftp))),
        (Token::PlainCommand, action(Action::Named)),
        (Token::PasswordCommand, Meaning { evidence: Evidence::PASSWORD.0, ..action(Action::Named) }),
        (Token::RedisAuth, password(Protocol::Redis)),
        (Token::PostgresPassword, opening(password(Protocol::Postgresql))),
        (Token::MqttPassword, opening(password(Protocol::Mqtt))),
        (Token::LdapSimpleBind, opening(password(Protocol::Ldap))),
        (Token::NatsPassword, opening(password(Protocol::Nats))),
        (Token::AmqpStart, opening(commands(Protocol::Amqp))),
        (Token::NatsInfo, opening(commands(Protocol::Nats))),
        (Token::XmppStream, opening(commands(Protocol::Xmpp))),
        (Token::LengthByte, action(Action::LengthByte)),
        (Token::ProxyLengthEnd, action(Action::EndOfPreambleLength)),
        (Token::AmqpTls, opening(preamble(3))),
        (Token::Ssl2Hello, opening(Meaning { evidence: Evidence::OFFERS_WEAK.0, ..action(Action::Tls) })),
        (Token::SniIstio, evidence(Evidence::SNI_ISTIO)),
        (Token::SniLinkerd, evidence(Evidence::SNI_LINKERD)),
        (Token::AlpnIstio, evidence(Evidence::ALPN_ISTIO)),
        (Token::AlpnLinkerd, evidence(Evidence::ALPN_LINKERD)),
        (Token::AlpnKuma, evidence(Evidence::ALPN_KUMA)),
        (Token::AlpnH2, evidence(Evidence::ALPN_H2)),
        (Token::UnknownStart, action(Action::Unknown)),
        (Token::H2cPreface, Meaning { evidence: Evidence::H2C_PREFACE.0, ..action(Action::Preface) }),
        (Token::HttpRequest, request),
        (Token::HttpHeadRequest, Meaning { head: Head::HEAD_METHOD, ..request }),
        (Token::HttpResponse, response),
        (Token::HttpResponseWithoutBody, Meaning { head: Head::RESPONSE | Head::NO_BODY, ..response }),
        (Token::LspHeader, Meaning { evidence: Evidence::LSP_FRAMING.0, ..action(Action::Head) }),
        (Token::RawJson, lines),
        (Token::RawJsonBatch, Meaning { head: Head::BATCH, ..lines }),
        (Token::EndOfHead, action(Action::EndOfHead)),
        (Token::LengthDigit, Meaning { head: Head::LENGTH, ..action(Action::LengthDigit) }),
        (Token::Chunked, head(Head::CHUNKED)),
        (Token::ChunkDigit, action(Action::ChunkDigit)),
        (Token::EndOfChunkSize, action(Action::EndOfChunkSize)),
        (Token::Batch, head(Head::BATCH)),
        (Token::ContentUnknown, action(Action::Skip)),
        (Token::AcceptJson, evidence(Evidence::ACCEPT_JSON)),
        (Token::AcceptEventStream, evidence(Evidence::ACCEPT_EVENT_STREAM)),
        (Token::ContentJson, evidence(Evidence::JSON_BODY)),
        (Token::ContentEventStream, evidence(Evidence::EVENT_STREAM)),
        (Token::AuthorizationOther, evidence(Evidence::AUTH_OTHER)),
        (Token::AuthorizationBearer, evidence(Evidence::AUTH_BEARER)),
        (Token::AuthorizationBasic, evidence(Evidence::AUTH_BASIC)),
        (Token::ProxyAuthorization, evidence(Evidence::PROXY_AUTHORIZATION)),
        (Token::Cookie, evidence(Evidence::COOKIE)),
        (Token::SetCookie, evidence(Evidence::SET_COOKIE)),
        (Token::ApiKey, evidence(Evidence::API_KEY)),
        (Token::McpSession, evidence(Evidence::MCP_SESSION)),
        (Token::McpVersion, evidence(Evidence::MCP_VERSION)),
        (Token::McpMethod, evidence(Evidence::MCP_METHOD)),
        (Token::McpWebSocket, evidence(Evidence::MCP_WEBSOCKET)),
        (Token::McpEndpointEvent, evidence(Evidence::MCP_ENDPOINT_EVENT)),
        (Token::A2a, evidence(Evidence::A2A)),
        (Token::KubeProbe, evidence(Evidence::KUBE_PROBE)),
        (Token::JsonRpc, member(Evidence::JSONRPC, 0)),
        (Token::OtherMethod, member(Evidence::OTHER_METHOD, 0)),
        (Token::McpNamespace, evidence(Evidence::MCP_NAMESPACE)),
    ];
    let mut index = 0;
    while index < entries.len() {
        table[entries[index].0 as usize] = entries[index].1;
        index += 1;
    }
    // `protocolVersion` stands in `params` and in `result`, at any depth.
    table[Token::McpRevision as usize] = evidence(Evidence::MCP_REVISION);
    index = 0;
    while index < METHODS.len() {
        let bit = if METHODS[index].shared { Evidence::SHARED_METHOD } else { Evidence::MCP_BODY_METHOD };
        table[Token::FirstMethod as usize + index] = member(bit, 1 << index);
        index += 1;
    }
    table
}
