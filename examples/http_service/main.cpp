// http_service PACKAGE [PORT]: text generation over HTTP. POST /generate answers with the text in chunks, as it is
// generated; GET /model describes the model. One model serves every request, each with a session of its own.
// Port 0 takes a free one; the first line printed says which. SIGINT and SIGTERM end it.
#include <httplib.h>
#include <signal.h>

#include <charconv>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <exception>
#include <mambasdk/mambasdk.hpp>
#include <memory>
#include <semaphore>
#include <stdexcept>
#include <string>
#include <string_view>
#include <thread>
#include <utility>

#include "request.hpp"
#include "server.hpp"

namespace {

constexpr std::ptrdiff_t generations = 16;        // at once; others wait
constexpr std::chrono::seconds longest_wait{30};  // and are told so after this
std::counting_semaphore<generations> free_places(generations);

// A place among the generations, held as long as this lives.
struct Place {
  Place() {
    if (!free_places.try_acquire_for(longest_wait)) throw Busy("every place is taken; try again later");
  }
  Place(const Place&) = delete;
  Place& operator=(const Place&) = delete;
  ~Place() { free_places.release(); }
};

void answer_error(httplib::Response& response, int status, const std::string& message) {
  response.status = status;
  response.set_content(error_body(message), "application/json");
}

// Everything that can be refused is refused here, while there is still a status to say so with.
void check_request(const mambasdk::Tokenizer& tokenizer, const GenerateRequest& request) {
  try {
    (void)mambasdk::Sampler(request.options.sampler);  // its options are in range
    if (tokenizer.encode(request.prompt).empty()) throw BadRequest("the prompt is empty; give at least one character");
  } catch (const mambasdk::Error& error) {
    if (error.code() == MAMBASDK_ERROR_INVALID_ARGUMENT) throw BadRequest(error.what());
    throw;
  }
}

void serve_generate(const mambasdk::Model& model, const mambasdk::Tokenizer& tokenizer, const httplib::Request& http,
                    httplib::Response& response) {
  auto request = std::make_shared<GenerateRequest>(parse_request(http.body));
  check_request(tokenizer, *request);
  auto place = std::make_shared<Place>();
  auto session = std::make_shared<mambasdk::Session>(model);
  response.set_chunked_content_provider(
      "text/plain; charset=utf-8", [request, session, place](std::size_t /*offset*/, httplib::DataSink& sink) {
        mambasdk::GenerateOptions options = request->options;
        // A client that went away ends the generation.
        options.on_text = [&sink](std::string_view text) { return sink.write(text.data(), text.size()); };
        try {
          session->generate(request->prompt, options);
        } catch (const std::exception& error) {
          std::fprintf(stderr, "http_service: %s\n", error.what());
          return false;  // cuts the connection: the client sees that the text is not whole
        }
        sink.done();
        return true;
      });
}

void add_routes(Server& server, const mambasdk::Model& model, const mambasdk::Tokenizer& tokenizer) {
  server.set_pre_routing_handler([](const httplib::Request& request, httplib::Response& response) {
    if (is_local(request)) return httplib::Server::HandlerResponse::Unhandled;
    answer_error(response, 403, "Host, and Origin where there is one, must be localhost or 127.0.0.1");
    return httplib::Server::HandlerResponse::Handled;
  });
  server.Get("/model", [&model](const httplib::Request&, httplib::Response& response) {
    response.set_content(std::string(model.description()), "application/json");
  });
  server.Post("/generate", [&](const httplib::Request& request, httplib::Response& response) {
    try {
      serve_generate(model, tokenizer, request, response);
    } catch (const BadRequest& error) {
      answer_error(response, 400, error.what());
    } catch (const Busy& error) {
      answer_error(response, 503, error.what());
    } catch (const std::exception& error) {
      answer_error(response, 500, error.what());
    }
  });
  server.set_error_handler([](const httplib::Request& request, httplib::Response& response) {
    if (!response.body.empty()) return;
    const std::string message = response.status == 404   ? "there is no " + request.method + " " + request.path
                                : response.status == 413 ? "the body is larger than 1 MiB"
                                                         : "the request is not one that this service understands";
    answer_error(response, response.status, message + "; it has POST /generate and GET /model");
  });
}

int run(const char* package, int port) {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGINT);
  sigaddset(&signals, SIGTERM);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);  // inherited by every thread; sigwait below gets them

  const mambasdk::Model model(package);
  const mambasdk::Tokenizer tokenizer(model);
  Server server{Limits{}};
  add_routes(server, model, tokenizer);
  if (port == 0) {
    port = server.bind_to_any_port("127.0.0.1");
  } else if (!server.bind_to_port("127.0.0.1", port)) {
    port = -1;
  }
  if (port < 0) throw std::runtime_error("the port is taken; give another, or 0 for any");
  std::printf("http_service: listening on http://127.0.0.1:%d\n", port);
  std::fflush(stdout);
  std::jthread listener([&server] { server.listen_after_bind(); });
  int received = 0;
  sigwait(&signals, &received);
  while (!server.is_running()) std::this_thread::yield();  // stop() does nothing before that
  server.stop();
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  int port = 8080;
  if (argc == 3) {
    const auto [end, error] = std::from_chars(argv[2], argv[2] + std::strlen(argv[2]), port);
    if (error != std::errc{} || *end != '\0' || port < 0 || port > 65535) argc = 0;
  }
  if (argc != 2 && argc != 3) {
    std::fprintf(stderr, "usage: http_service PACKAGE [PORT]\n");
    return 2;
  }
  try {
    return run(argv[1], port);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "http_service: %s\n", error.what());
    return 1;
  }
}
