//! The helpers of this process: one for each place, shared by all ports, ended with the last of them.

use super::link::{self, Request};
use super::start::Place;
use crate::bridge::Opening;
use crate::model::{Address, EndpointSpec};
use std::collections::HashMap;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, LazyLock, Mutex, PoisonError, Weak};
use tokio::sync::{mpsc, oneshot, watch};

static PLACES: LazyLock<Mutex<HashMap<Place, Weak<Helper>>>> = LazyLock::new(Mutex::default);

/// One helper, as long as somebody has this.
struct Helper {
    requests: mpsc::UnboundedSender<Request>,
    wanted: watch::Sender<bool>,
    /// Its thread ended.
    ended: watch::Receiver<bool>,
}

impl Drop for Helper {
    fn drop(&mut self) {
        // A thread that ended needs no word.
        let _ = self.wanted.send(false);
    }
}

/// The helpers that one bridge uses.
#[derive(Clone, Default)]
pub struct Helpers(Arc<Mutex<HashMap<Place, Arc<Helper>>>>);

impl std::fmt::Debug for Helpers {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Helpers(..)")
    }
}

fn place_of(endpoint: &EndpointSpec) -> Place {
    let windows = match &endpoint.address {
        Address::Tty { device, .. } => !device.contains('/'),
        address => matches!(address, Address::Pipe { .. }),
    };
    Place {
        via: endpoint.via.clone(),
        windows,
    }
}

impl Helpers {
    /// Opens an endpoint once, through the helper of its place.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives the attempt up.
    pub fn open(&self, endpoint: &EndpointSpec) -> Opening {
        let helper = self.helper(place_of(endpoint));
        let endpoint = endpoint.clone();
        Box::pin(async move {
            let (answer, answered) = oneshot::channel();
            let gone = || io::Error::other("the helper's thread ended");
            helper?
                .requests
                .send(Request { endpoint, answer })
                .map_err(|_| gone())?;
            answered.await.map_err(|_| gone())?
        })
    }

    fn helper(&self, place: Place) -> io::Result<Arc<Helper>> {
        let mut own = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(helper) = own.get(&place) {
            return Ok(Arc::clone(helper));
        }
        let mut all = PLACES.lock().unwrap_or_else(PoisonError::into_inner);
        let helper = match all.get(&place).and_then(Weak::upgrade) {
            Some(helper) => helper,
            None => {
                let helper = Arc::new(start(place.clone())?);
                all.retain(|_, helper| helper.strong_count() > 0);
                all.insert(place.clone(), Arc::downgrade(&helper));
                helper
            }
        };
        own.insert(place, Arc::clone(&helper));
        Ok(helper)
    }

    /// Lets go of the helpers. Those that nobody else has are ended, and waited for.
    pub fn close(&self) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        let own = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        Box::pin(async move {
            for helper in own.into_values() {
                let mut ended = helper.ended.clone();
                if let Some(helper) = Arc::into_inner(helper) {
                    drop(helper);
                    // Its thread may be gone by itself.
                    let _ = ended.wait_for(|ended| *ended).await;
                }
            }
        })
    }
}

fn start(place: Place) -> io::Result<Helper> {
    let (requests, asked) = mpsc::unbounded_channel();
    let (wanted, is_wanted) = watch::channel(true);
    let (ending, ended) = watch::channel(false);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    std::thread::Builder::new().name("helper".into()).spawn(move || {
        runtime.block_on(link::run(place, asked, is_wanted));
        // A look-up that hangs must not keep us.
        runtime.shutdown_background();
        // Nobody may be waiting.
        let _ = ending.send(true);
    })?;
    Ok(Helper {
        requests,
        wanted,
        ended,
    })
}
