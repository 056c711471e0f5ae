/* Opens many streams of server-sent events at once, and times what comes.
 *
 *   sseload PORT PATH BODYFILE STREAMS [HEADER...]
 *
 * Each stream is one POST on a connection of its own, to 127.0.0.1. Bytes are searched for events
 * ("data: {") and for the end ("[DONE]", or the end of the connection), and not parsed further, so
 * that the load takes a small part of what it measures. Prints one line of JSON: times in ms, CPU
 * in s. Events that one read brings count as one arrival between tokens. At SIGUSR1 it forgets the
 * events and the gaps between them so far; at SIGTERM it ends, and tells of the streams as they are.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { GAPS = 1 << 22, OVERLAP = 6, AT_ONCE = 256, BUFFER = 1 << 18 };
static const double LONGEST_S = 300;

typedef struct {
    int fd, tail_length, status_length;
    char status[13], tail[OVERLAP];
    double sent, first, last;
    int is_whole;
} Stream;

static double *gaps;
static size_t gap_count;
static long events;
static volatile sig_atomic_t is_to_forget, is_to_end;

static void on_signal(int number) {
    if (number == SIGUSR1) is_to_forget = 1;
    else is_to_end = 1;
}

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec + time.tv_nsec * 1e-9;
}

static int ascending(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static double quantile_ms(double *values, size_t count, double part) {
    return count ? values[(size_t)((count - 1) * part)] * 1e3 : 0;
}

static void fail(const char *what) {
    perror(what);
    exit(1);
}

static void send_all(int fd, const char *bytes, size_t length) {
    while (length > 0) {
        ssize_t sent = write(fd, bytes, length);
        if (sent <= 0) fail("write");
        bytes += sent;
        length -= sent;
    }
}

static void begin(Stream *stream, int port, const char *head, size_t head_length, const char *body,
                  size_t body_length) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    int one = 1;
    inet_pton(AF_INET, "127.0.0.1", &address.sin_addr);
    stream->fd = socket(AF_INET, SOCK_STREAM, 0);
    setsockopt(stream->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (connect(stream->fd, (void *)&address, sizeof address)) fail("connect");
    stream->sent = now();
    send_all(stream->fd, head, head_length);
    send_all(stream->fd, body, body_length);
    fcntl(stream->fd, F_SETFL, O_NONBLOCK);
}

/* Reads what has come. Returns whether the stream is over. */
static int take(Stream *stream) {
    static char buffer[BUFFER];
    memcpy(buffer, stream->tail, stream->tail_length);
    ssize_t got = read(stream->fd, buffer + stream->tail_length, BUFFER - stream->tail_length);
    if (got <= 0) return !(got < 0 && errno == EAGAIN);
    for (ssize_t i = 0; i < got && stream->status_length < 12; i++)
        stream->status[stream->status_length++] = buffer[stream->tail_length + i];
    size_t length = stream->tail_length + got;
    long found = 0;
    for (char *at = buffer; (at = memmem(at, buffer + length - at, "data: {", 7)); at += 7) found++;
    if (found) {
        double time = now();
        if (!stream->first) stream->first = time;
        else if (gap_count < GAPS) gaps[gap_count++] = time - stream->last;
        stream->last = time;
        events += found;
    }
    if (memmem(buffer, length, "[DONE]", 6)) return stream->is_whole = 1;
    stream->tail_length = length < OVERLAP ? length : OVERLAP;
    memcpy(stream->tail, buffer + length - stream->tail_length, stream->tail_length);
    return 0;
}

int main(int argc, char **argv) {
    if (argc < 5) {
        fprintf(stderr, "usage: sseload PORT PATH BODYFILE STREAMS [HEADER...]\n");
        return 2;
    }
    static char body[1 << 20], head[8192];
    FILE *file = fopen(argv[3], "rb");
    if (!file) fail(argv[3]);
    size_t body_length = fread(body, 1, sizeof body, file);
    int port = atoi(argv[1]), count = atoi(argv[4]);
    int head_length = snprintf(head, sizeof head,
        "POST %s HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        "Content-Length: %zu\r\nConnection: close\r\n", argv[2], body_length);
    for (int i = 5; i < argc; i++)
        head_length += snprintf(head + head_length, sizeof head - head_length, "%s\r\n", argv[i]);
    head_length += snprintf(head + head_length, sizeof head - head_length, "\r\n");

    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    gaps = malloc(GAPS * sizeof *gaps);
    Stream *streams = calloc(count, sizeof *streams);
    signal(SIGUSR1, on_signal);
    signal(SIGTERM, on_signal);
    int poll = epoll_create1(0), open = count;
    double began = now();
    for (int i = 0; i < count; i++) {
        begin(&streams[i], port, head, head_length, body, body_length);
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = &streams[i]};
        epoll_ctl(poll, EPOLL_CTL_ADD, streams[i].fd, &event);
    }
    while (open > 0 && !is_to_end && now() - began < LONGEST_S) {
        if (is_to_forget) is_to_forget = gap_count = events = 0;
        struct epoll_event ready[AT_ONCE];
        int found = epoll_wait(poll, ready, AT_ONCE, 1000);
        for (int i = 0; i < found; i++) {
            Stream *stream = ready[i].data.ptr;
            if (take(stream)) {
                close(stream->fd);
                open--;
            }
        }
    }
    double wall = now() - began, *firsts = malloc(count * sizeof *firsts);
    int first_count = 0, good = 0;
    for (int i = 0; i < count; i++) {
        if (streams[i].first) firsts[first_count++] = streams[i].first - streams[i].sent;
        good += streams[i].is_whole && !strncmp(streams[i].status + 9, "200", 3);
    }
    qsort(firsts, first_count, sizeof *firsts, ascending);
    qsort(gaps, gap_count, sizeof *gaps, ascending);
    struct rusage used;
    getrusage(RUSAGE_SELF, &used);
    double cpu = used.ru_utime.tv_sec + used.ru_stime.tv_sec
        + (used.ru_utime.tv_usec + used.ru_stime.tv_usec) * 1e-6;
    printf("{\"streams\":%d,\"good\":%d,\"events\":%ld,\"wall_s\":%.4f,\"ttft_p50_ms\":%.2f,"
           "\"ttft_p99_ms\":%.2f,\"gap_p50_ms\":%.3f,\"gap_p99_ms\":%.3f,\"load_cpu_s\":%.3f}\n",
           count, good, events, wall, quantile_ms(firsts, first_count, 0.5),
           quantile_ms(firsts, first_count, 0.99), quantile_ms(gaps, gap_count, 0.5),
           quantile_ms(gaps, gap_count, 0.99), cpu);
    return 0;
}
