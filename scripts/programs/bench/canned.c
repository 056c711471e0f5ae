/* A server of OpenAI's completions API that computes nothing: to each stream a token every step.
 *
 *   canned PORT STEP_MS
 *
 * Listens on 127.0.0.1. A POST to a path that ends with "completions" is answered with as many events
 * as its "max_tokens" says, sent at the ticks of one clock; any other POST with 404, so that a router
 * does not ask twice; a GET with the list of one model. Requests are read as far as that needs, and
 * connections are kept.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <unistd.h>

enum { CONNECTIONS = 8192, REQUEST = 1 << 14, AT_ONCE = 256, EVENT = 512 };

typedef struct {
    char request[REQUEST];
    size_t length;
    long token, tokens; /* `tokens` is 0 where nothing is streamed */
} Connection;

static Connection *connections[CONNECTIONS];
static const char STREAM[] =
    "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\n"
    "Transfer-Encoding: chunked\r\n\r\n";
static const char END[] = "e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n";
static const char MODELS[] = "{\"object\":\"list\",\"data\":[{\"id\":\"mock\",\"object\":\"model\"}]}";

static void fail(const char *what) {
    perror(what);
    exit(1);
}

static void leave(int fd) {
    free(connections[fd]);
    connections[fd] = NULL;
    close(fd);
}

/* Returns 0 if the connection had to be left: its reader is gone, or does not read. */
static int send_all(int fd, const char *bytes, size_t length) {
    if (send(fd, bytes, length, MSG_NOSIGNAL) == (ssize_t)length) return 1;
    leave(fd);
    return 0;
}

static int send_answer(int fd, const char *status, const char *body) {
    char answer[1024];
    int length = snprintf(answer, sizeof answer,
        "HTTP/1.1 %s\r\nContent-Type: application/json\r\nContent-Length: %zu\r\n\r\n%s", status,
        strlen(body), body);
    return send_all(fd, answer, length);
}

static int send_token(int fd, Connection *connection) {
    char event[EVENT], chunk[EVENT + 16];
    int is_last = ++connection->token == connection->tokens;
    int length = snprintf(event, sizeof event,
        "data: {\"id\":\"cmpl-7d4f2a90c1b84e6f\",\"object\":\"text_completion\",\"created\":1764400000,"
        "\"model\":\"mock\",\"choices\":[{\"index\":0,\"text\":\"%ld \",\"logprobs\":null,"
        "\"finish_reason\":%s}]}\n\n", connection->token, is_last ? "\"length\"" : "null");
    length = snprintf(chunk, sizeof chunk, "%x\r\n%s\r\n", length, event);
    if (!send_all(fd, chunk, length)) return 0;
    if (!is_last) return 1;
    connection->tokens = connection->token = 0;
    return send_all(fd, END, sizeof END - 1);
}

/* Returns the length of a whole request at the start of what has come, or 0. */
static size_t whole(Connection *connection) {
    char *end = memmem(connection->request, connection->length, "\r\n\r\n", 4);
    if (!end) return 0;
    size_t head = end + 4 - connection->request;
    *end = 0;
    char *field = strcasestr(connection->request, "\ncontent-length:");
    *end = '\r';
    size_t length = head + (field ? strtoul(field + 16, NULL, 10) : 0);
    return length <= connection->length ? length : 0;
}

static int begin(int fd, Connection *connection) {
    const char *request = connection->request;
    if (!strncmp(request, "GET ", 4)) return send_answer(fd, "200 OK", MODELS);
    const char *line = strstr(request, " HTTP/1.");
    if (!line || strncmp(line - 11, "completions", 11)) return send_answer(fd, "404 Not Found", "{}");
    const char *asked = strstr(request, "\"max_tokens\":");
    connection->tokens = asked ? strtol(asked + 13, NULL, 10) : 16;
    return send_all(fd, STREAM, sizeof STREAM - 1);
}

/* Reads what has come, and begins to answer what is whole. */
static void take(int fd) {
    Connection *connection = connections[fd];
    ssize_t got = read(fd, connection->request + connection->length,
                       REQUEST - 1 - connection->length);
    if (got < 0 && errno == EAGAIN) return;
    if (got <= 0) {
        leave(fd);
        return;
    }
    connection->length += got;
    connection->request[connection->length] = 0;
    for (size_t length; (length = whole(connection)) > 0;) {
        if (!begin(fd, connection)) return;
        connection->length -= length;
        memmove(connection->request, connection->request + length, connection->length + 1);
    }
}

static void accept_all(int listener, int poll) {
    int fd, one = 1;
    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
        if (fd >= CONNECTIONS) {
            close(fd);
            continue;
        }
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        connections[fd] = calloc(1, sizeof(Connection));
        struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
        epoll_ctl(poll, EPOLL_CTL_ADD, fd, &event);
    }
}

int main(int argc, char **argv) {
    if (argc != 3) {
        fprintf(stderr, "usage: canned PORT STEP_MS\n");
        return 2;
    }
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    int one = 1, listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(atoi(argv[1]))};
    inet_pton(AF_INET, "127.0.0.1", &address.sin_addr);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(listener, (void *)&address, sizeof address) || listen(listener, 4096)) fail("listen");
    int clock = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK), poll = epoll_create1(0);
    long step_ns = (long)(atof(argv[2]) * 1e6);
    struct itimerspec every = {.it_interval = {step_ns / 1000000000, step_ns % 1000000000}};
    every.it_value = every.it_interval;
    timerfd_settime(clock, 0, &every, NULL);
    for (int *fd = (int[]){listener, clock, -1}; *fd >= 0; fd++) {
        struct epoll_event event = {.events = EPOLLIN, .data.fd = *fd};
        epoll_ctl(poll, EPOLL_CTL_ADD, *fd, &event);
    }
    for (;;) {
        struct epoll_event ready[AT_ONCE];
        int found = epoll_wait(poll, ready, AT_ONCE, -1);
        for (int i = 0; i < found; i++) {
            int fd = ready[i].data.fd;
            uint64_t ticks;
            if (fd == listener) accept_all(listener, poll);
            else if (fd != clock) { if (connections[fd]) take(fd); }
            else if (read(clock, &ticks, sizeof ticks) > 0)
                for (int each = 0; each < CONNECTIONS; each++)
                    if (connections[each] && connections[each]->tokens)
                        send_token(each, connections[each]);
        }
    }
}
