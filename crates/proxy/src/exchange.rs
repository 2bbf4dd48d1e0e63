//! One command sent, and again where it must be, until there is a reply for the client.

use std::time::Duration;

use bytes::Bytes;
use mdb_scope::{
    CursorFacts, Facts, Glance, Incident, Race, ReplyRule, ReplyView, Scoped, glance, with_refused,
};
use mdb_telemetry::LeasePurpose;
use mdb_upstream::{Borrower, ExchangeError, Lease, Sent, Unbounded, UpstreamError};
use mdb_wire::frame::HEADER_BYTES;
use mdb_wire::{Document, Writer};
use tokio::time::{Instant, sleep};

use crate::attempt::{Attempt, UPSERT_TRIES_MAX};
use crate::builds;
use crate::error::{Error, Limit};
use crate::forward::Journey;
use crate::ground::Ground;
use crate::labels::{when_lost, when_shed};
use crate::whereabouts::Whereabouts;

/// Flags and the kind of the one section, in front of a reply's body.
const REPLY_BODY_AT: usize = HEADER_BYTES + 4 + 1;

/// `Interrupted`: what becomes of an operation that is ended.
const INTERRUPTED: i32 = 11601;

impl Journey<'_> {
    /// Sends a command and writes its reply; a cursor in it is entered.
    pub(crate) async fn exchange(
        &self,
        scoped: &mut Scoped,
        ground: Ground<'_>,
        out: &mut Vec<u8>,
    ) -> Result<Glance, Error> {
        let mut unwanted = None;
        let result = self
            .exchange_with(scoped, ground, out, &mut |lease, rule, upstream_id| {
                if upstream_id == 0 {
                    return Ok(0);
                }
                let opened = self.open_cursor(lease, rule, ground, upstream_id);
                opened.inspect_err(|_| {
                    unwanted = Some(self.cursor(lease, rule, ground, upstream_id).facts());
                })
            })
            .await;
        if let Err(Error::Limit(Limit::CursorsOfApp)) = &result {
            tracing::warn!(app = %self.identity.app.id, "an app holds too many open cursors");
            self.close_upstream(unwanted).await;
        }
        let exchanged = result?;
        self.close_upstream(exchanged.ended).await;
        Ok(exchanged.seen)
    }

    /// Sends a command once. `None` if that failed and it may be sent again.
    async fn send(
        &self,
        scoped: &mut Scoped,
        attempt: &mut Attempt,
        deadline: Instant,
    ) -> Result<Option<(Lease, Bytes)>, Error> {
        let borrower = self.borrower();
        let routing = self.routing(scoped);
        let lent = self.shared.upstream.lend(&routing, &borrower, deadline);
        let mut lease = lent.await.map_err(|error| {
            let is_unbegun = attempt.is_unbegun();
            let labels = if error.is_overload() && is_unbegun {
                when_shed(self.command)
            } else {
                when_lost(self.command, is_unbegun)
            };
            match error {
                // Whose time is up is told by whose time it was.
                UpstreamError::Deadline { .. } => self.deadline.passed(labels),
                error => Error::Upstream { error, labels },
            }
        })?;
        self.pin(lease.server());
        let local = lease.local_address();
        self.operation
            .at(local.map(|local| (lease.server().clone(), local)));
        self.spend(scoped, attempt, &lease)?;
        let place = local.filter(|_| self.may_stand_still());
        let answered = if let Some(local) = place {
            let place = Whereabouts {
                server: lease.server().clone(),
                local: local.to_string(),
            };
            let exchange = self.exchange_in_room(&mut lease, scoped);
            let (answered, is_ended) = self.on_the_move(place, exchange).await;
            attempt.stood_still = is_ended;
            answered
        } else {
            self.exchange_in_room(&mut lease, scoped).await
        };
        let Some(answered) = answered else {
            let labels = when_lost(self.command, false);
            return Err(Limit::UnreadOfApp { labels }.into());
        };
        match answered {
            Ok(frame) => Ok(Some((lease, frame))),
            Err(error) if attempt.after_failure(scoped.retry(), error.sent) => {
                self.shared.metrics.retry();
                Ok(None)
            }
            Err(error) => {
                let is_unsent = error.sent == Sent::Nothing && attempt.is_unbegun();
                let labels = when_lost(self.command, is_unsent);
                Err(Error::Exchange { error, labels })
            }
        }
    }

    /// `None` where there is no room for the reply.
    async fn exchange_in_room(
        &self,
        lease: &mut Lease,
        scoped: &mut Scoped,
    ) -> Option<Result<Bytes, ExchangeError>> {
        let Some(room) = &self.operation.room else {
            return Some(lease.exchange(scoped, &Unbounded).await);
        };
        tokio::select! {
            biased;
            exchanged = lease.exchange(scoped, &**room) => Some(exchanged),
            () = room.refused() => None,
        }
    }

    fn borrower(&self) -> Borrower {
        let purpose = if self.spec.name == "getMore" {
            LeasePurpose::Cursor
        } else if self.in_transaction() {
            LeasePurpose::Transaction
        } else {
            LeasePurpose::Command
        };
        Borrower {
            app: self.identity.app.id.clone(),
            purpose,
        }
    }

    /// Takes what was spent so far, waiting for members and connections mostly, and the way to the server and back, off the
    /// command's `maxTimeMS`. Where nothing is left the command is not sent.
    fn spend(&self, scoped: &mut Scoped, attempt: &Attempt, lease: &Lease) -> Result<(), Error> {
        let Some(left) = self.deadline.left_millis(|| lease.round_trip()) else {
            return Ok(());
        };
        if left == 0 {
            let labels = when_lost(self.command, attempt.is_unbegun());
            return Err(self.deadline.passed(labels));
        }
        scoped.set_max_time_millis(left);
        Ok(())
    }

    /// Sends a command until there is a reply to pass on or nothing more may be tried, and writes the reply.
    pub(crate) async fn exchange_with(
        &self,
        scoped: &mut Scoped,
        ground: Ground<'_>,
        out: &mut Vec<u8>,
        map_cursor: &mut (dyn FnMut(&Lease, ReplyRule, i64) -> Result<i64, Error> + Send),
    ) -> Result<Exchanged, Error> {
        let mut attempt = Attempt::default();
        let refused = scoped.refused().to_vec();
        let mut race = None;
        let deadline = self.deadline.of_step();
        loop {
            let sent = self.send(scoped, &mut attempt, deadline).await?;
            let Some((lease, frame)) = sent else {
                continue;
            };
            let body = frame.get(REPLY_BODY_AT..).unwrap_or_default();
            if let Some(canary) = &self.forward.canary
                && canary.sings(&self.identity.app.id, body)
            {
                return Err(Error::incident(
                    "a document of the canary in a reply to another app",
                ));
            }
            let reply = Document::parse_shallow(body)
                .map_err(|_| Error::incident("a reply that is no document"))?;
            self.forward.cluster_time.learn(reply);
            let seen = glance(reply);
            if !seen.has_outcome {
                return Err(Error::incident("a reply that does not say how it ended"));
            }
            if let Some(code) = seen.state_change {
                self.shared
                    .upstream
                    .report(lease.server(), lease.generation(), code);
            }
            let attempt = (&mut attempt, deadline);
            if let Some(pause) = self.is_sent_again(scoped, attempt, ground, &seen)? {
                self.shared.metrics.retry();
                drop(lease);
                sleep(pause).await;
                continue;
            }
            if let Some(again) =
                self.lost_again(scoped, (&mut race, deadline), ground, reply, &seen)?
            {
                *scoped = again;
                self.shared.metrics.retry();
                continue;
            }
            let whole = race.filter(|_| seen.is_ok).map(|race| race.reply(reply));
            let reply = made(whole.as_deref(), reply);
            let told = (!refused.is_empty()).then(|| with_refused(reply, &refused));
            let reply = made(told.as_deref(), reply);
            let dedicated = ground.dedicated(self.command.database, self.collection_name());
            let view = ReplyView {
                scope: self.scope,
                rule: scoped.rule(),
                collection: ground.collection,
                database: self.command.database,
                dedicated: &dedicated,
                continues: ground.continues,
                shares: ground.shares(),
            };
            write_reply(&view, reply, &seen, &lease, out, map_cursor)?;
            let ended = self.ended_stream(&lease, scoped.rule(), ground, reply);
            return Ok(Exchanged { seen, ended });
        }
    }
}

impl Journey<'_> {
    /// Whether the same command is sent once more instead of passing the reply on, and after which pause.
    fn is_sent_again(
        &self,
        scoped: &mut Scoped,
        (attempt, deadline): (&mut Attempt, Instant),
        ground: Ground<'_>,
        seen: &Glance,
    ) -> Result<Option<Duration>, Error> {
        let upserts_by_id = scoped.is_upsert_by_id() && !self.in_transaction();
        if attempt.after_reply(scoped.retry(), upserts_by_id, seen) {
            if attempt.keeps_to_base() {
                self.keep_to_base(scoped, ground)?;
            }
            return Ok(Some(Duration::ZERO));
        }
        if attempt.stood_still && seen.code == Some(INTERRUPTED) {
            // As long as transactions last, unless the client has said how long.
            return Ok(Some(attempt.behind_others()));
        }
        let pause = builds::are_in_the_way(seen.code).then(|| attempt.behind_others());
        Ok(pause.filter(|pause| Instant::now() + *pause < deadline))
    }

    /// Leaves the server no choice of plans, where a read of a shared collection has one.
    fn keep_to_base(&self, scoped: &mut Scoped, ground: Ground<'_>) -> Result<(), Error> {
        let has_choice = matches!(self.spec.name, "find" | "aggregate" | "count");
        if has_choice && !ground.collection.is_dedicated() {
            *scoped = self.with_facts(ground, |facts| {
                let facts = Facts {
                    keeps_to_base: true,
                    ..*facts
                };
                self.scope.apply(self.spec, self.command, &facts)
            })?;
        }
        Ok(())
    }
}

/// The reply that was made of one, if any was.
fn made<'a>(bytes: Option<&'a [u8]>, reply: Document<'a>) -> Document<'a> {
    bytes.map_or(reply, |bytes| {
        Document::parse_shallow(bytes).unwrap_or(reply)
    })
}

/// A command that was answered.
pub(crate) struct Exchanged {
    pub(crate) seen: Glance,
    /// A cursor that is still open upstream and that the client takes for closed.
    pub(crate) ended: Option<CursorFacts>,
}

impl Journey<'_> {
    /// The statements of an `update` that lost a race which the server would have settled by itself on a private collection,
    /// as they are to be sent again. In a transaction they are lost with it, as on a private server.
    fn lost_again(
        &self,
        scoped: &Scoped,
        (race, deadline): (&mut Option<Race>, Instant),
        ground: Ground<'_>,
        reply: Document<'_>,
        seen: &Glance,
    ) -> Result<Option<Scoped>, Error> {
        let may_lose = self.spec.name == "update"
            && !ground.collection.is_dedicated()
            && !scoped.is_upsert_by_id()
            && !self.in_transaction();
        let is_race = race.is_some() || seen.is_duplicate_id;
        if !may_lose || !is_race || !seen.is_ok {
            return Ok(None);
        }
        let race = race.get_or_insert_with(|| Race::new(self.command, UPSERT_TRIES_MAX));
        let is_late = Instant::now() > deadline;
        let Some(statements) = race.after_reply(reply, is_late) else {
            return Ok(None);
        };
        let again = self.with_facts(ground, |facts| {
            self.scope
                .apply_again(self.spec, self.command, facts, statements)
        })?;
        Ok(Some(again))
    }
}

/// Writes a reply for the client; `map_cursor` enters the cursor in it.
fn write_reply(
    view: &ReplyView<'_>,
    reply: Document<'_>,
    seen: &Glance,
    lease: &Lease,
    out: &mut Vec<u8>,
    map_cursor: &mut (dyn FnMut(&Lease, ReplyRule, i64) -> Result<i64, Error> + Send),
) -> Result<(), Error> {
    out.reserve(reply.bytes().len());
    let mut w = Writer::new(std::mem::take(out));
    let mark = w.begin();
    let mut failure = None;
    let written = view.write(&mut w, reply, seen, &mut |upstream_id| {
        map_cursor(lease, view.rule, upstream_id).unwrap_or_else(|error| {
            failure = Some(error);
            0
        })
    });
    w.end(mark);
    *out = w.into_bytes();
    if let Some(error) = failure {
        return Err(error);
    }
    written.map_err(|incident| match incident {
        Incident::UpstreamUnauthorized(text) => Error::Unprivileged(text),
        _ => Error::incident(incident.to_string()),
    })
}
