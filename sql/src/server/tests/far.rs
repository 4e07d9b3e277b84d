//! A network whose clients all seem to be on another machine.

use std::io;
use std::sync::Arc;

use async_trait::async_trait;
use holdfast_env::{Connection, Env, Listener, Net, SystemNet};

#[derive(Debug)]
struct FarNet;

#[derive(Debug)]
struct FarListener(Box<dyn Listener>);

/// The real world, but for where clients are.
pub(super) fn far() -> Env {
    Env {
        net: Arc::new(FarNet),
        ..Env::system()
    }
}

#[async_trait]
impl Net for FarNet {
    async fn connect(&self, address: &str) -> io::Result<Connection> {
        SystemNet.connect(address).await
    }

    async fn listen(&self, address: &str) -> io::Result<Box<dyn Listener>> {
        let listener = SystemNet.listen(address).await?;
        Ok(Box::new(FarListener(listener)))
    }
}

#[async_trait]
impl Listener for FarListener {
    fn local_address(&self) -> String {
        self.0.local_address()
    }

    async fn accept(&mut self) -> io::Result<Connection> {
        let near = self.0.accept().await?;
        Ok(Connection {
            peer: "192.0.2.1:5432".to_owned(),
            ..near
        })
    }
}
