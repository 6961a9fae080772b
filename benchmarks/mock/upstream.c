/* An instant OpenAI-compatible upstream: one thread, epoll, HTTP/1.1 with kept connections.
 *
 *   bytes in ─▶ head found ─▶ body complete ─▶ one JSON answer, or 50 server-sent events in 51 writes
 *
 * It reads nothing of a request but its framing and whether the body asks for a stream, so that what is measured is the
 * gateway in front of it. TCP_NODELAY is set; every chunk of a stream is a write of its own, as a model's tokens are.
 *
 * Usage: upstream PORT      listens on 127.0.0.1, prints "ready PORT" (a free port for 0), ends on SIGTERM.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define CHUNKS 50
#define INITIAL_BYTES 16384
#define MAX_BYTES (32 * 1024 * 1024)
#define MAX_EVENTS 512

struct connection {
    int fd;
    size_t used, capacity;         /* of what has come in */
    char *in;
    char *out;                     /* what the socket would not take yet */
    size_t out_used, out_sent;
};

static const char ANSWER[] =
    "{\"id\":\"chatcmpl-mock\",\"object\":\"chat.completion\",\"created\":1700000000,\"model\":\"mock\",\"choices\":["
    "{\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":\"Paris is the capital of France; the Seine flows through "
    "it.\",\"refusal\":null},\"logprobs\":null,\"finish_reason\":\"stop\"}],\"usage\":{\"prompt_tokens\":120,"
    "\"completion_tokens\":12,\"total_tokens\":132}}";
static const char MODELS[] =
    "{\"object\":\"list\",\"data\":[{\"id\":\"mock\",\"object\":\"model\",\"created\":1700000000,\"owned_by\":\"mock\"}]}";
static const char STREAM_HEAD[] =
    "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncache-control: no-cache\r\ntransfer-encoding: chunked\r\n\r\n";

static char answer[2048], models[1024];
static size_t answer_bytes, models_bytes;
static char events[CHUNKS + 1][512];   /* each with its HTTP chunk framing; the last one ends the body */
static size_t event_bytes[CHUNKS + 1];

static void die(const char *what) { perror(what); exit(1); }

static size_t whole(char *into, size_t room, const char *body) {
    return (size_t)snprintf(into, room, "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %zu\r\n\r\n%s",
                            strlen(body), body);
}

static void prepare(void) {
    answer_bytes = whole(answer, sizeof answer, ANSWER);
    models_bytes = whole(models, sizeof models, MODELS);
    for (int i = 0; i < CHUNKS; i++) {
        char data[400];
        const char *delta = i == 0 ? "{\"role\":\"assistant\",\"content\":\"\"}" : i == CHUNKS - 1 ? "{}" : "{\"content\":\" word\"}";
        int n = snprintf(data, sizeof data,
                         "data: {\"id\":\"chatcmpl-mock\",\"object\":\"chat.completion.chunk\",\"created\":1700000000,"
                         "\"model\":\"mock\",\"choices\":[{\"index\":0,\"delta\":%s,\"finish_reason\":%s}]}\n\n",
                         delta, i == CHUNKS - 1 ? "\"stop\"" : "null");
        event_bytes[i] = (size_t)snprintf(events[i], sizeof events[i], "%x\r\n%s\r\n", (unsigned)n, data);
    }
    event_bytes[CHUNKS] = (size_t)snprintf(events[CHUNKS], sizeof events[CHUNKS], "e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n");
}

/* Returns 0 when the connection must end. What the socket does not take waits in `out`. */
static int send_all(struct connection *c, const char *data, size_t bytes) {
    size_t sent = 0;
    while (c->out_used == 0 && sent < bytes) {
        ssize_t n = send(c->fd, data + sent, bytes - sent, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) break;
        if (n < 0) return 0;
        sent += (size_t)n;
    }
    if (sent == bytes) return 1;
    char *grown = realloc(c->out, c->out_used + bytes - sent);
    if (grown == NULL) return 0;
    c->out = grown;
    memcpy(c->out + c->out_used, data + sent, bytes - sent);
    c->out_used += bytes - sent;
    return 1;
}

static int flush(struct connection *c) {
    while (c->out_sent < c->out_used) {
        ssize_t n = send(c->fd, c->out + c->out_sent, c->out_used - c->out_sent, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return errno == EAGAIN || errno == EWOULDBLOCK;
        c->out_sent += (size_t)n;
    }
    c->out_used = c->out_sent = 0;
    return 1;
}

static int reply(struct connection *c, int get, const char *body, size_t bytes) {
    if (get) return send_all(c, models, models_bytes);
    int stream = memmem(body, bytes, "\"stream\":true", 13) != NULL || memmem(body, bytes, "\"stream\": true", 14) != NULL;
    if (!stream) return send_all(c, answer, answer_bytes);
    if (!send_all(c, STREAM_HEAD, sizeof STREAM_HEAD - 1)) return 0;
    for (int i = 0; i <= CHUNKS; i++)
        if (!send_all(c, events[i], event_bytes[i])) return 0;
    return 1;
}

/* The value of a header, or NULL. `head` ends with a NUL. */
static const char *header(const char *head, const char *name) {
    size_t bytes = strlen(name);
    for (const char *line = strstr(head, "\r\n"); line != NULL; line = strstr(line + 2, "\r\n"))
        if (strncasecmp(line + 2, name, bytes) == 0 && line[2 + bytes] == ':') {
            line += 3 + bytes;
            return line + strspn(line, " ");
        }
    return NULL;
}

/* Bytes of a complete body from `body`: 0 with *whole unset when more must come, with *bad set when it is no HTTP. */
static size_t body_length(const char *head, const char *body, size_t available, int *complete, int *bad) {
    const char *coding = header(head, "transfer-encoding"), *length = header(head, "content-length");
    *complete = *bad = 0;
    if (coding == NULL || strncasecmp(coding, "chunked", 7) != 0) {
        size_t bytes = length == NULL ? 0 : strtoul(length, NULL, 10);
        *bad = bytes > MAX_BYTES;
        *complete = !*bad && available >= bytes;
        return bytes;
    }
    size_t at = 0;
    for (;;) {
        const char *line = memmem(body + at, available - at, "\r\n", 2);
        if (line == NULL) return 0;
        char *end;
        unsigned long bytes = strtoul(body + at, &end, 16);
        if (end == body + at || bytes > MAX_BYTES) { *bad = 1; return 0; }
        size_t next = (size_t)(line - body) + 2 + bytes + 2;
        if (next > available) return 0;
        at = next;
        if (bytes == 0) { *complete = 1; return at; }
    }
}

/* Answers every complete request of the buffer. Returns 0 when the connection must end. */
static int serve(struct connection *c) {
    size_t at = 0;
    while (at < c->used) {
        char *head = c->in + at, *end = memmem(head, c->used - at, "\r\n\r\n", 4);
        if (end == NULL) break;
        end[2] = '\0';
        char *body = end + 4;
        size_t available = c->used - (size_t)(body - c->in);
        int complete, bad;
        size_t bytes = body_length(head, body, available, &complete, &bad);
        const char *expect = complete ? NULL : header(head, "expect");
        int get = strncmp(head, "GET ", 4) == 0;
        end[2] = '\r';
        if (bad) return 0;
        if (!complete) {
            if (expect != NULL && available == 0 && !send_all(c, "HTTP/1.1 100 Continue\r\n\r\n", 25)) return 0;
            break;
        }
        if (!reply(c, get, body, bytes)) return 0;
        at = (size_t)(body - c->in) + bytes;
    }
    memmove(c->in, c->in + at, c->used - at);
    c->used -= at;
    return 1;
}

static int receive(struct connection *c) {
    for (;;) {
        if (c->used == c->capacity) {
            if (c->capacity >= MAX_BYTES) return 0;
            char *grown = realloc(c->in, c->capacity * 2);
            if (grown == NULL) return 0;
            c->in = grown;
            c->capacity *= 2;
        }
        size_t room = c->capacity - c->used;
        ssize_t n = recv(c->fd, c->in + c->used, room, 0);
        if (n == 0) return 0;
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return errno == EAGAIN || errno == EWOULDBLOCK;
        c->used += (size_t)n;
        if (!serve(c)) return 0;
        if ((size_t)n < room) return 1;
    }
}

static void forget(struct connection *c) {
    close(c->fd);
    free(c->in);
    free(c->out);
    free(c);
}

static void welcome(int poller, int listener) {
    int fd;
    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
        int on = 1;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        struct connection *c = calloc(1, sizeof *c);
        if (c == NULL || (c->in = malloc(INITIAL_BYTES)) == NULL) die("malloc");
        c->fd = fd;
        c->capacity = INITIAL_BYTES;
        struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, .data.ptr = c};
        if (epoll_ctl(poller, EPOLL_CTL_ADD, fd, &event) < 0) die("epoll_ctl");
    }
}

int main(int argc, char **argv) {
    if (argc != 2) { fprintf(stderr, "usage: %s PORT\n", argv[0]); return 2; }
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((unsigned short)atoi(argv[1])),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), on = 1;
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(listener, (struct sockaddr *)&address, size) < 0) die("bind");
    if (listen(listener, 4096) < 0) die("listen");
    if (getsockname(listener, (struct sockaddr *)&address, &size) < 0) die("getsockname");
    prepare();
    int poller = epoll_create1(0);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL}, ready[MAX_EVENTS];
    if (poller < 0 || epoll_ctl(poller, EPOLL_CTL_ADD, listener, &event) < 0) die("epoll");
    printf("ready %d\n", ntohs(address.sin_port));
    fflush(stdout);
    for (;;) {
        int count = epoll_wait(poller, ready, MAX_EVENTS, -1);
        if (count < 0 && errno != EINTR) die("epoll_wait");
        for (int i = 0; i < count; i++) {
            struct connection *c = ready[i].data.ptr;
            if (c == NULL) { welcome(poller, listener); continue; }
            int keep = !(ready[i].events & (EPOLLERR | EPOLLHUP));
            if (keep && (ready[i].events & EPOLLOUT)) keep = flush(c);
            if (keep && (ready[i].events & EPOLLIN)) keep = receive(c);
            if (!keep) forget(c);
        }
    }
}
