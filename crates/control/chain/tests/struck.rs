//! A Close is answered when a restart does not find the connection any more.
#![allow(clippy::unwrap_used, reason = "a test stops where it fails")]

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use nsm_api::{connection::Connection, networkservice::NetworkServiceRequest};
use nsm_chain::{
    Call, Chain, Connections, Element, Error, Journal, Next, Struck, Tasks, begin::Begin,
};
use nsm_test_support::order;
use tokio::{
    sync::oneshot,
    time::{Instant, sleep},
};

/// Who is asked last, and grants everything.
struct Last;

#[async_trait]
impl Element<Connections> for Last {
    fn name(&self) -> &'static str {
        "last"
    }

    async fn request(
        &self,
        _: &mut Call,
        request: NetworkServiceRequest,
        _: Next<Connections>,
    ) -> Result<Connection, Error> {
        Ok(request.connection.into_option().unwrap())
    }

    async fn close(&self, _: &mut Call, _: Connection, _: Next<Connections>) -> Result<(), Error> {
        Ok(())
    }
}

/// A disk that takes its time.
#[derive(Clone, Default)]
struct Slow(Arc<Mutex<Vec<oneshot::Sender<()>>>>);

impl Journal for Slow {
    fn keep(&self, _: &str, _: Vec<u8>) {}

    fn forget(&self, _: &str) -> Struck {
        let (done, struck) = Struck::pending();
        self.0.lock().unwrap().push(done);
        struck
    }
}

/// How a role begins, when its disk is done, and when its close is answered, milliseconds.
#[tokio::test(start_paused = true)]
async fn who_makes_links_again_answers_no_close_before_it_is_struck() {
    for (strikes, done, answered) in [
        (false, None, 0),
        (true, Some(300), 300),
        (true, Some(0), 0),
        (true, None, 1_000),
    ] {
        let (disk, tasks) = (Slow::default(), Tasks::new());
        let journal: Option<Arc<dyn Journal>> = Some(Arc::new(disk.clone()));
        let begin = match strikes {
            true => Begin::striking(tasks.clone(), journal),
            false => Begin::journalled(tasks.clone(), journal),
        };
        let list = vec![
            Box::new(begin) as Box<dyn Element<Connections>>,
            Box::new(Last),
        ];
        let chain = Chain::new(list);
        let mut call = Call::local(Instant::now() + Duration::from_secs(60));
        let request = order("nsc", "id", "svc", Default::default());
        let granted = chain.request(&mut call, request).await.unwrap();
        let began = Instant::now();
        if let Some(done) = done {
            let disk = disk.clone();
            tasks.spawn(async move {
                sleep(Duration::from_millis(done) + Duration::from_micros(100)).await;
                disk.0.lock().unwrap().clear();
            });
        }
        chain.close(&mut call, granted).await.unwrap();
        let took = began.elapsed().as_millis();
        assert!(
            (answered..=answered + 2).contains(&took),
            "{strikes} {done:?}: {took} ms"
        );
    }
}
