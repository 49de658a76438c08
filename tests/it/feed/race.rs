//! Everything that happens to feeds at once: sends, marks, deletions, expiry and retention by several processes. Whatever
//! the order was, the numbers agree with the items in the end, and everybody was told the same first time of everything.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use campanile::domain::{Acting, Service, Settings, feed, notification};
use campanile::model::feed::{FeedItem, Topic};
use campanile::model::id::{AppId, CategoryId, FeedItemId, UserId};
use campanile::model::{Error, Reason, Result, Timestamp};
use campanile::store::Store;
use campanile::store::entity::{feed_head, feed_head_category, feed_item};
use campanile::worker::sweep;
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter};

use super::fast;
use super::random::{USERS, acting, send_request, world};
use crate::on_both;

/// Tasks at once, and what each does.
const TASKS: usize = 8;
const STEPS: usize = 40;
/// What one step takes on the clock of the test. It makes the shortest retention run out about half-way.
const STEP_MILLIS: i64 = 40_000;

/// What a feed must be at every moment between two transactions.
pub(super) async fn check_invariants(store: &Store, app: AppId) {
    let db = store.read();
    let items = feed_item::Entity::find()
        .filter(feed_item::Column::AppId.eq(app))
        .all(db)
        .await
        .unwrap();
    let heads = feed_head::Entity::find()
        .filter(feed_head::Column::AppId.eq(app))
        .all(db)
        .await
        .unwrap();
    let heads: BTreeMap<UserId, feed_head::Model> = heads.into_iter().map(|head| (head.user_id, head)).collect();
    let mut unread: BTreeMap<UserId, i32> = BTreeMap::new();
    let mut by_category: BTreeMap<(UserId, CategoryId), i32> = BTreeMap::new();
    let (mut seqs, mut changes) = (BTreeSet::new(), BTreeSet::new());
    for item in &items {
        let head = &heads[&item.user_id];
        assert!(seqs.insert((item.user_id, item.seq)), "a number was given twice");
        assert!(
            changes.insert((item.user_id, item.change_seq)),
            "a change number was given twice"
        );
        assert!(
            item.seq <= item.change_seq && item.change_seq <= head.seq,
            "{item:?} {head:?}"
        );
        assert!(
            item.read_at.is_none() || item.delivered_at.is_some(),
            "read and not delivered: {item:?}"
        );
        if item.counted {
            assert!(item.read_at.is_none() && item.deleted_at.is_none(), "{item:?}");
            *unread.entry(item.user_id).or_default() += 1;
            if let Some(category) = item.category_id.filter(|_| item.filterable) {
                *by_category.entry((item.user_id, category)).or_default() += 1;
            }
        }
    }
    for (user, head) in &heads {
        assert_eq!(head.unread, unread.get(user).copied().unwrap_or_default(), "{head:?}");
        assert!((0..=head.seq).contains(&head.purged_seq), "{head:?}");
    }
    let counts = feed_head_category::Entity::find().filter(feed_head_category::Column::AppId.eq(app));
    let counts = counts
        .all(db)
        .await
        .unwrap()
        .into_iter()
        .filter(|count| count.unread != 0);
    let counts: BTreeMap<_, _> = counts
        .map(|count| ((count.user_id, count.category_id), count.unread))
        .collect();
    assert_eq!(counts, by_category);
}

/// What the tasks share.
struct Race {
    app: AppId,
    started: Timestamp,
    clock: AtomicI64,
    /// Every item that a send has answered.
    sent: std::sync::Mutex<Vec<(usize, FeedItemId)>>,
    /// What marks answered: the item, what was marked, and when.
    told: std::sync::Mutex<BTreeMap<(FeedItemId, &'static str), Timestamp>>,
}

impl Race {
    fn acting(&self, user: Option<usize>) -> Acting {
        let millis = self
            .clock
            .fetch_add(STEP_MILLIS / i64::try_from(TASKS).unwrap(), Ordering::Relaxed);
        let now = Timestamp::from_millis(self.started.millis() + millis).unwrap();
        acting(self.app, user.map(|user| USERS[user]), now)
    }

    fn pick(&self, chance: usize) -> Option<(usize, FeedItemId)> {
        let sent = self.sent.lock().unwrap();
        (!sent.is_empty()).then(|| sent[chance % sent.len()])
    }

    /// Whoever marks an item is told the first time of it, which is the same for everybody.
    fn tell(&self, id: FeedItemId, what: &'static str, at: Timestamp) {
        let first = *self.told.lock().unwrap().entry((id, what)).or_insert(at);
        assert_eq!(first, at, "{what} {id} was told two times of");
    }

    fn hear(&self, answer: Result<FeedItem>) {
        let Some(item) = tolerated(answer) else { return };
        let state = item.stored.state;
        for (what, at) in [
            ("delivered", state.delivered_at),
            ("read", state.read_at),
            ("interacted", state.interacted_at),
        ] {
            if let Some(at) = at {
                self.tell(item.stored.id, what, at);
            }
        }
    }

    async fn send(&self, service: &Service, chance: usize) {
        let receivers: Vec<usize> = (0..=chance % USERS.len())
            .map(|user| (user + chance) % USERS.len())
            .collect();
        let request = send_request(chance % 4, &receivers, "race");
        let sent = notification::send(service, &self.acting(None), request).await.unwrap();
        for receiver in sent.value.receivers {
            let user = USERS.iter().position(|uid| *uid == receiver.uid.as_str()).unwrap();
            self.sent
                .lock()
                .unwrap()
                .push((user, receiver.deliveries[0].feed_item_id.unwrap()));
        }
    }

    async fn step(&self, service: &Service, chance: usize) {
        let user = chance / 7 % USERS.len();
        let Some((owner, id)) = self.pick(chance / 11) else {
            return self.send(service, chance).await;
        };
        let own = self.acting(Some(owner));
        match chance % 12 {
            0..=2 => self.send(service, chance / 3).await,
            3 => self.hear(feed::mark_read(service, &own, id).await.map(|written| written.value)),
            4 => self.hear(
                feed::mark_delivered(service, &own, id)
                    .await
                    .map(|written| written.value),
            ),
            5 => {
                let topic: Topic = format!("t{}", chance % 5).parse().unwrap();
                self.hear(
                    feed::engage(service, &own, id, topic)
                        .await
                        .map(|written| written.value),
                );
            }
            6 => {
                let deleted = feed::delete(service, &self.acting(None), id).await;
                if let Some(deleted) = tolerated(deleted.map(|written| written.value)) {
                    self.tell(id, "deleted", deleted.deleted_at);
                }
            }
            7 => {
                let some: BTreeSet<_> = (0..5)
                    .filter_map(|more| self.pick(chance / 11 + more))
                    .map(|(_, id)| id)
                    .collect();
                let delivered = feed::deliver_many(service, &own, some).await.unwrap();
                for (id, at) in delivered.value.items {
                    self.tell(id, "delivered", at);
                }
            }
            8 => {
                let category = ["News", "Offers"].get(chance / 13 % 3).copied();
                feed::mark_all_read(service, &self.acting(Some(user)), category)
                    .await
                    .unwrap();
            }
            9 => {
                feed::unread_count(service, &self.acting(Some(user)), None, None)
                    .await
                    .unwrap();
            }
            _ => {
                sweep::turn(service, self.acting(None).now).await;
            }
        }
    }
}

/// What was answered, unless the item was deleted or removed by somebody else.
fn tolerated<T>(answer: Result<T>) -> Option<T> {
    answer
        .map_err(|error: Error| assert_eq!(error.reason(), Reason::FeedItemNotFound, "{error:?}"))
        .ok()
}

on_both! {
    async fn whatever_happens_at_once_the_numbers_agree_with_the_items(db) {
        let started = Timestamp::from_millis(1_800_000_000_000).unwrap();
        let store = db.open().await;
        // Two processes on one database.
        let nodes = [
            Service::open(Settings::new(db.settings())).await.unwrap(),
            Service::open(Settings::new(db.settings())).await.unwrap(),
        ];
        let app = world(&nodes[0], started).await.app;
        let race = Arc::new(Race {
            app,
            started,
            clock: AtomicI64::new(0),
            sent: std::sync::Mutex::default(),
            told: std::sync::Mutex::default(),
        });
        for round in 0..2 {
            let mut tasks = tokio::task::JoinSet::new();
            for task in 0..TASKS {
                let (race, service) = (Arc::clone(&race), nodes[task % 2].clone());
                tasks.spawn(async move {
                    // Another walk for every task, the same every time.
                    let mut chance: usize = 12_345 + 7_919 * (task + TASKS * round);
                    for _ in 0..STEPS {
                        chance = chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                        race.step(&service, chance >> 20).await;
                    }
                });
            }
            while let Some(done) = tasks.join_next().await {
                done.unwrap();
            }
            check_invariants(&store, app).await;
        }
        let rows = feed_item::Entity::find().all(store.read()).await.unwrap();
        let told = race.told.lock().unwrap().clone();
        for row in &rows {
            for (what, at) in [
                ("delivered", row.delivered_at),
                ("read", row.read_at),
                ("interacted", row.interacted_at),
                ("deleted", row.deleted_at),
            ] {
                if let Some(first) = told.get(&(row.id, what)) {
                    assert_eq!(at, Some(*first), "{what} {row:?}");
                }
            }
        }
        assert!(rows.len() > 50 && rows.iter().any(|row| row.deleted_at.is_some()) && rows.iter().any(|row| row.counted));
        for node in nodes {
            node.close().await;
        }
    }

    async fn those_who_read_everything_at_once_count_every_item_once(db) {
        let now = Timestamp::from_millis(1_800_000_000_000).unwrap();
        let service = Service::open(Settings::new(db.settings())).await.unwrap();
        let store = db.open().await;
        let app = world(&service, now).await.app;
        notification::send(&service, &acting(app, None, now), send_request(0, &[0, 1], "all")).await.unwrap();
        // Enough for several transactions of each.
        let all = fast::fill_with(&store, app, 700, &[]).await;
        let readers = (0..4).map(|_| async {
            let read = feed::mark_all_read(&service, &acting(app, Some(USERS[0]), now), None).await;
            usize::try_from(read.unwrap().value).unwrap()
        });
        let read: usize = futures::future::join_all(readers).await.into_iter().sum();
        assert_eq!(read, all + 1);
        check_invariants(&store, app).await;
        service.close().await;
    }
}
