//! Which request gets which answer.
//!
//! One service with one type of answer, instead of a route for each path: the library would
//! make the code that writes a response once for every handler and every way to fail.

use alloc::format;

use picoserve::ResponseSent;
use picoserve::io::Read;
use picoserve::request::{Path, Request};
use picoserve::response::{Response, ResponseWriter, StatusCode};
use picoserve::routing::PathRouterService;

use crate::content::{Answer, Pattern};
use crate::echo;
use crate::page;
use crate::socket::Upload;

/// What serves one connection.
pub(crate) struct Service {
    pub(crate) upload: Upload,
    pub(crate) pattern: Pattern,
}

impl PathRouterService for Service {
    async fn call_path_router_service<R: Read, W: ResponseWriter<Error = R::Error>>(
        &self,
        _state: &(),
        _parameters: (),
        path: Path<'_>,
        mut request: Request<'_, R>,
        writer: W,
    ) -> Result<ResponseSent, W::Error> {
        let path = path.encoded();
        let method = request.parts.method();
        let (status, answer) = match (self.resource(path), method) {
            (Some(Resource::Echo), "POST") => {
                let has_length = request.parts.headers().get("transfer-encoding").is_none();
                match has_length {
                    true => (
                        StatusCode::OK,
                        echo::start(&self.upload, &mut request).await?,
                    ),
                    false => (
                        StatusCode::LENGTH_REQUIRED,
                        Answer::text("send the body with a length\n".into()),
                    ),
                }
            }
            (Some(Resource::Get(answer)), "GET") => (StatusCode::OK, answer),
            (Some(Resource::Get(answer)), "HEAD") => (StatusCode::OK, answer.without_body()),
            (Some(_), _) => (
                StatusCode::METHOD_NOT_ALLOWED,
                Answer::text(format!("Method {method} not allowed for {path}\r\n")),
            ),
            (None, _) => (
                StatusCode::NOT_FOUND,
                Answer::text(format!("{path} not found\r\n")),
            ),
        };
        let connection = request.body_connection.finalize().await?;
        writer
            .write_response(connection, Response::new(status, answer))
            .await
    }
}

enum Resource {
    Get(Answer),
    Echo,
}

impl Service {
    fn resource(&self, path: &str) -> Option<Resource> {
        match path {
            "/" => Some(Resource::Get(Answer::page(page::render()))),
            "/activity" => Some(Resource::Get(Answer::text(format!(
                "{}",
                rekernel::activity()
            )))),
            "/echo" => Some(Resource::Echo),
            path => {
                let length = path.strip_prefix("/bytes/")?.parse().ok()?;
                Some(Resource::Get(Answer::bytes(length, &self.pattern)))
            }
        }
    }
}
