//! What a Close has taken back is noted before the next hop hears of it.
#![allow(clippy::unwrap_used, reason = "a test stops where it fails")]

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use nsm_api::{connection::Connection, networkservice::NetworkServiceRequest};
use nsm_chain::{
    Call, Chain, Connections, Element, Error, Journal, Kept, Next, Record, Tasks, Written,
    begin::{Begin, Noting},
};
use nsm_test_support::order;
use serde::{Deserialize, Serialize};
use tokio::{
    sync::oneshot,
    time::{Instant, sleep},
};

/// What would be made again.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Made;

impl Kept for Made {
    const NAME: &'static str = "makes";
}

/// Makes something, and takes it back; says when the close goes on.
struct Makes(Arc<Mutex<Option<Instant>>>);

#[async_trait]
impl Element<Connections> for Makes {
    fn name(&self) -> &'static str {
        "makes"
    }

    async fn request(
        &self,
        call: &mut Call,
        request: NetworkServiceRequest,
        _: Next<Connections>,
    ) -> Result<Connection, Error> {
        call.store.keep(Made);
        Ok(request.connection.into_option().unwrap())
    }

    async fn close(
        &self,
        call: &mut Call,
        _: Connection,
        _: Next<Connections>,
    ) -> Result<(), Error> {
        call.store.take_kept::<Made>();
        Noting::note(call).await;
        *self.0.lock().unwrap() = Some(Instant::now());
        Ok(())
    }
}

/// A disk that takes its time, with what it was told.
#[derive(Clone, Default)]
struct Slow {
    waited: Arc<Mutex<Vec<oneshot::Sender<()>>>>,
    told: Arc<Mutex<Vec<String>>>,
}

impl Journal for Slow {
    fn keep(&self, _: &str, record: Vec<u8>) {
        let record = Record::<Connections>::read(&record).unwrap();
        let makes = format!("{:?}", record.notes).contains("makes");
        let what = if makes { "made" } else { "taken back" };
        self.told.lock().unwrap().push(what.to_owned());
    }

    fn forget(&self, _: &str) {
        self.told.lock().unwrap().push("struck".to_owned());
    }

    fn written(&self) -> Written {
        let (done, written) = Written::pending();
        self.waited.lock().unwrap().push(done);
        written
    }
}

/// How a role begins, when its disk is done, and when its close goes on, milliseconds.
#[tokio::test(start_paused = true)]
async fn what_was_taken_back_is_noted_before_a_close_goes_on() {
    for (notes, done, expected) in [
        (false, None, 0),
        (true, Some(300), 300),
        (true, Some(0), 0),
        (true, None, 1_000),
    ] {
        let (disk, tasks) = (Slow::default(), Tasks::new());
        let journal: Option<Arc<dyn Journal>> = Some(Arc::new(disk.clone()));
        let begin = match notes {
            true => Begin::noting(tasks.clone(), journal),
            false => Begin::journalled(tasks.clone(), journal),
        };
        let went_on = Arc::default();
        let makes = Makes(Arc::clone(&went_on));
        let list: Vec<Box<dyn Element<Connections>>> = vec![Box::new(begin), Box::new(makes)];
        let chain = Chain::new(list);
        let mut call = Call::local(Instant::now() + Duration::from_secs(60));
        let request = order("nsc", "id", "svc", Default::default());
        let granted = chain.request(&mut call, request).await.unwrap();
        let began = Instant::now();
        if let Some(done) = done {
            let disk = disk.clone();
            tasks.spawn(async move {
                sleep(Duration::from_millis(done) + Duration::from_micros(100)).await;
                disk.waited.lock().unwrap().clear();
            });
        }
        chain.close(&mut call, granted).await.unwrap();
        let took = (went_on.lock().unwrap().unwrap() - began).as_millis();
        assert!(
            (expected..=expected + 2).contains(&took),
            "{notes} {done:?}: {took} ms"
        );
        let told = disk.told.lock().unwrap().join(", ");
        let between = if notes { "taken back, " } else { "" };
        assert_eq!(told, format!("made, {between}struck"));
    }
}
