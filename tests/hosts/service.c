/* What images of the tests run that a shell cannot do.

   service ready        sends READY=1 (sd_notify(3)) and ends when that has been read (sd_notify_barrier(3))
   service serve WORD   answers everybody on the sockets from fd 3 on (sd_listen_fds(3)): HTTP with the WORD, which
                        of the sockets it is, and their names; datagrams get the line alone */

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

/* Until systemd has read it: of a process that has ended by then it would not know to which unit it belongs. */
static int ready(void)
{
	const char *path = getenv("NOTIFY_SOCKET");
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	union {
		struct cmsghdr header;
		char space[CMSG_SPACE(sizeof(int))];
	} control = { 0 };
	struct iovec barrier = { .iov_base = "BARRIER=1", .iov_len = 9 };
	struct msghdr message = {
		.msg_name = &address, .msg_namelen = sizeof(address), .msg_iov = &barrier, .msg_iovlen = 1,
		.msg_control = &control, .msg_controllen = sizeof(control),
	};
	int fd = socket(AF_UNIX, SOCK_DGRAM, 0), ends[2];

	if (!path || strlen(path) >= sizeof(address.sun_path) || pipe(ends))
		return 1;
	strcpy(address.sun_path, path);
	if (sendto(fd, "READY=1", 7, 0, (struct sockaddr *)&address, sizeof(address)) != 7)
		return 1;
	control.header.cmsg_level = SOL_SOCKET;
	control.header.cmsg_type = SCM_RIGHTS;
	control.header.cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(&control.header), &ends[1], sizeof(int));
	if (sendmsg(fd, &message, 0) != 9)
		return 1;
	close(ends[1]);
	struct pollfd end = { .fd = ends[0] };
	return poll(&end, 1, 60000) != 1;
}

static void answer(int fd, const char *line)
{
	char word[512], text[1024];
	struct sockaddr_storage sender;
	socklen_t size = sizeof(sender), length = sizeof(int);
	int type;

	getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &length);
	if (type == SOCK_DGRAM) {
		if (recvfrom(fd, word, sizeof(word), 0, (struct sockaddr *)&sender, &size) > 0)
			sendto(fd, line, strlen(line), 0, (struct sockaddr *)&sender, size);
		return;
	}
	int connection = accept(fd, NULL, NULL);
	if (connection < 0)
		return;
	if (read(connection, word, sizeof(word)) > 0) {
		snprintf(text, sizeof(text), "HTTP/1.0 200 OK\r\n\r\n%s", line);
		if (write(connection, text, strlen(text)) < 0)
			perror("write");
	}
	close(connection);
}

static int serve(const char *word)
{
	const char *pid = getenv("LISTEN_PID"), *names = getenv("LISTEN_FDNAMES");
	int count = atoi(getenv("LISTEN_FDS") ? getenv("LISTEN_FDS") : "0");
	struct pollfd fds[16];
	char line[512];

	if (count < 1 || count > 16 || !pid || atoi(pid) != getpid())
		return 1;
	for (int i = 0; i < count; i++)
		fds[i] = (struct pollfd){ .fd = 3 + i, .events = POLLIN };
	for (;;) {
		poll(fds, count, -1);
		for (int i = 0; i < count; i++) {
			if (!fds[i].revents)
				continue;
			snprintf(line, sizeof(line), "%s %d/%d %s\n", word, i, count, names ? names : "-");
			answer(fds[i].fd, line);
		}
	}
}

int main(int argc, char **argv)
{
	if (argc == 2 && !strcmp(argv[1], "ready"))
		return ready();
	if (argc == 3 && !strcmp(argv[1], "serve"))
		return serve(argv[2]);
	return 2;
}
