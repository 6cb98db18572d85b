//! The HTTP server's thread: it accepts, and hands connections to the router.
//!
//! Bounded: connections per listener and per address, size and time of a request's head, size and time of a body,
//! life of a connection. The unix socket has its own share of connections, so that TCP clients
//! cannot keep the operator out.

use crate::admin::api::{self, Shared};
use crate::admin::crowd::{Crowd, Place};
use crate::admin::glance::Glance;
use crate::admin::guard::Access;
use crate::admin::listen::{self, AdminError, Listeners, SocketFile};
use crate::admin::long_request::LongRequest;
use crate::admin::{AdminSettings, Operations, StatusSource};
use axum::{Extension, Router};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

/// Connections of one listener; further ones wait in the kernel's queue.
const CONNECTIONS_MAX: u32 = 64;
/// How long a request's head may take, and how long a connection may idle.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// Most bytes of a request's head.
const HEAD_BYTES_MAX: usize = 16 << 10;
/// After this time a connection ends with its current request, which has [`DRAIN_TIME`] left unless it is a
/// long one.
const CONNECTION_LIFE: Duration = Duration::from_secs(300);
/// How often a connection beyond that is looked at.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// How long requests in progress may go on when the server stops.
const DRAIN_TIME: Duration = Duration::from_secs(2);
/// Threads for operations that wait for the disk, or for more of a package or a list; they come as they are needed.
const OPERATION_THREADS: usize = 16;

/// The running admin server. It stops when dropped.
#[derive(Debug)]
pub struct Admin {
    address: Option<SocketAddr>,
    stop: watch::Sender<bool>,
    thread: Option<JoinHandle<()>>,
}

impl Admin {
    /// Where it listens over TCP; the port is the one in use if 0 was asked for.
    pub const fn address(&self) -> Option<SocketAddr> {
        self.address
    }

    /// Ends it: requests in progress have two seconds. The unix socket is gone afterwards.
    pub fn stop(self) {
        drop(self);
    }
}

impl Drop for Admin {
    fn drop(&mut self) {
        self.stop.send_replace(true);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the admin server's thread panicked");
        }
    }
}

/// Opens the listeners and serves them on a thread of its own.
///
/// # Errors
///
/// A listener cannot be opened, or the thread not started.
pub fn spawn(
    settings: &AdminSettings,
    operations: Arc<dyn Operations>,
    status: Arc<dyn StatusSource>,
) -> Result<Admin, AdminError> {
    let listeners = listen::open(settings)?;
    let address = listeners.tcp.as_ref().map(|&(_, address)| address);
    let remote_api = settings.remote_api;
    match address.map(|address| (address, Access::of_address(address.ip(), remote_api))) {
        Some((address, Access::Public)) => tracing::warn!(
            "TIDEGATE_ADMIN_BIND={address} is not a loopback address: metrics and status are open \
             to everyone who reaches it; devices and data are served on the unix socket only"
        ),
        Some((address, Access::Remote)) => tracing::warn!(
            "TIDEGATE_ADMIN_BIND={address} is not a loopback address, and \
             TIDEGATE_ADMIN_REMOTE_API serves devices and data there to who has the token, which \
             HTTP shows to everyone on the way: put a TLS proxy or a tunnel before it"
        ),
        _ => {}
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(OPERATION_THREADS)
        .thread_name("admin-operation")
        .build()
        .map_err(AdminError::Thread)?;
    let (stop, stopped) = watch::channel(false);
    let shared = Arc::new(Shared {
        operations,
        status,
        token: settings.token.clone(),
        glance: Glance::default(),
    });
    let thread = std::thread::Builder::new()
        .name("admin".to_owned())
        .spawn(move || {
            let served = serve(listeners, remote_api, &shared, stopped);
            if let Err(error) = runtime.block_on(served) {
                tracing::error!(%error, "the admin server has stopped");
            }
            // Operations that hang must not keep the process.
            runtime.shutdown_timeout(DRAIN_TIME);
        })
        .map_err(AdminError::Thread)?;
    Ok(Admin {
        address,
        stop,
        thread: Some(thread),
    })
}

async fn serve(
    listeners: Listeners,
    remote_api: bool,
    shared: &Arc<Shared>,
    stop: watch::Receiver<bool>,
) -> io::Result<()> {
    let tcp = match listeners.tcp {
        Some((listener, address)) => {
            let router = api::router(
                Arc::clone(shared),
                Access::of_address(address.ip(), remote_api),
            );
            Some((TcpListener::from_std(listener)?, router))
        }
        None => None,
    };
    let unix = match listeners.unix {
        Some((listener, file)) => {
            let router = api::router(Arc::clone(shared), Access::Owner);
            Some((UnixListener::from_std(listener)?, file, router))
        }
        None => None,
    };
    let (tcp_stop, unix_stop) = (stop.clone(), stop);
    let serve_tcp = async {
        if let Some((listener, router)) = tcp {
            let accept = async || {
                let accepted = listener.accept().await;
                accepted.map(|(stream, from)| (stream, Some(from.ip())))
            };
            accept_all(accept, router, tcp_stop).await;
        }
    };
    let serve_unix = async {
        if let Some((listener, file, router)) = unix {
            let _removed_at_end: SocketFile = file;
            let accept = async || listener.accept().await.map(|(stream, _)| (stream, None));
            accept_all(accept, router, unix_stop).await;
        }
    };
    let served = async { tokio::join!(serve_tcp, serve_unix) };
    tokio::select! {
        _ = served => {}
        () = shared.glance.watch(&*shared.status) => {}
    }
    Ok(())
}

/// Serves connections until told to stop, then waits for those in progress.
async fn accept_all<S>(
    accept: impl AsyncFn() -> io::Result<(S, Option<IpAddr>)>,
    router: Router,
    mut stop: watch::Receiver<bool>,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    const PAUSE: Duration = Duration::from_millis(100);
    let permits = Arc::new(Semaphore::new(CONNECTIONS_MAX as usize));
    let crowd = Crowd::default();
    loop {
        let next = async {
            let permit = Arc::clone(&permits).acquire_owned().await;
            let permit = permit.map_err(io::Error::other)?;
            let (stream, from) = accept().await?;
            Ok::<_, io::Error>((stream, from, permit))
        };
        let accepted = tokio::select! {
            accepted = next => accepted,
            _ = stop.wait_for(|&stop| stop) => break,
        };
        match accepted {
            Ok((stream, from, permit)) => {
                // Who has too many is hung up on.
                if let Some(place) = crowd.enter(from) {
                    let places = (permit, place);
                    tokio::spawn(connection(stream, router.clone(), stop.clone(), places));
                }
            }
            Err(error) => {
                // Out of descriptors, or the peer was gone already.
                tracing::debug!(%error, "an admin connection was not accepted");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
    let _ = tokio::time::timeout(DRAIN_TIME, permits.acquire_many(CONNECTIONS_MAX)).await;
}

async fn connection<S>(
    stream: S,
    router: Router,
    mut stop: watch::Receiver<bool>,
    _places: (OwnedSemaphorePermit, Place),
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let long = LongRequest::default();
    let router = router.layer(Extension(long.clone()));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_header_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    let mut connection = pin!(connection);
    tokio::select! {
        // What a client does wrong ends its connection, and is nobody else's concern.
        _ = connection.as_mut() => return,
        _ = stop.wait_for(|&stop| stop) => {}
        () = tokio::time::sleep(CONNECTION_LIFE) => {}
    }
    connection.as_mut().graceful_shutdown();
    while long.is_in_work() {
        tokio::select! {
            _ = connection.as_mut() => return,
            _ = stop.wait_for(|&stop| stop) => break,
            () = tokio::time::sleep(LOOK_INTERVAL) => {}
        }
    }
    let _ = tokio::time::timeout(DRAIN_TIME, connection).await;
}
