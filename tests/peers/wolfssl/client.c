/* A DTLS 1.2 client made of wolfSSL as the distribution ships it: it sends what it is told and
 * prints what comes back. See mbedtls-peer, whose options it shares as far as they go:
 *
 *   wolfssl-peer HOST PORT [--suite NAME] [--cert PEM --key PEM] [--ca PEM] [--mtu N]
 *                [--psk-identity TEXT --psk HEX] --send HEX...
 *
 * Built and run by the tests only.
 */
#include <wolfssl/options.h>
#include <wolfssl/ssl.h>

#include <arpa/inet.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { ATTEMPTS = 4, ANSWER_TIMEOUT_MS = 1000, MESSAGES_MAX = 32, MESSAGE_MAX = 1024 };

static void fail(const char *what)
{
    printf("failed %s\n", what);
    exit(1);
}

static int from_hex(const char *text, unsigned char *bytes, int room)
{
    size_t length = strlen(text);
    if (length % 2 != 0 || length / 2 > (size_t)room)
        fail("--send");
    for (size_t at = 0; at < length / 2; at++) {
        unsigned value;
        if (sscanf(text + 2 * at, "%2x", &value) != 1)
            fail("--send");
        bytes[at] = (unsigned char)value;
    }
    return (int)(length / 2);
}

static const char *psk_identity, *psk;

static unsigned pre_shared_key(WOLFSSL *ssl, const char *hint, char *identity,
                               unsigned identity_max, unsigned char *key, unsigned key_max)
{
    (void)ssl, (void)hint;
    if (strlen(psk_identity) >= identity_max)
        fail("--psk-identity");
    strcpy(identity, psk_identity);
    return (unsigned)from_hex(psk, key, (int)key_max);
}

/* Waits for the answer with the message's own Message ID. */
static int answered(WOLFSSL *ssl, int socket, const unsigned char *message)
{
    unsigned char answer[MESSAGE_MAX];
    struct pollfd readable = {.fd = socket, .events = POLLIN};
    while (wolfSSL_pending(ssl) > 0 || poll(&readable, 1, ANSWER_TIMEOUT_MS) > 0) {
        int length = wolfSSL_read(ssl, answer, sizeof answer);
        if (length < 4) {
            int error = wolfSSL_get_error(ssl, length);
            if (error == WOLFSSL_ERROR_WANT_READ)
                continue;
            fail("read");
        }
        if (memcmp(answer + 2, message + 2, 2) != 0)
            continue;
        printf("received ");
        for (int at = 0; at < length; at++)
            printf("%02x", answer[at]);
        printf("\n");
        return 1;
    }
    return 0;
}

int main(int count, char **arguments)
{
    const char *suite = NULL, *certificate = NULL, *key = NULL, *trusted = NULL;
    const char *messages[MESSAGES_MAX];
    int message_count = 0, mtu = 0;
    if (count < 3)
        fail("usage: wolfssl-peer HOST PORT [OPTION VALUE]...");
    for (int at = 3; at + 1 < count; at += 2) {
        const char *name = arguments[at], *value = arguments[at + 1];
        if (strcmp(name, "--suite") == 0)
            suite = value;
        else if (strcmp(name, "--cert") == 0)
            certificate = value;
        else if (strcmp(name, "--key") == 0)
            key = value;
        else if (strcmp(name, "--ca") == 0)
            trusted = value;
        else if (strcmp(name, "--psk-identity") == 0)
            psk_identity = value;
        else if (strcmp(name, "--psk") == 0)
            psk = value;
        else if (strcmp(name, "--mtu") == 0)
            mtu = atoi(value);
        else if (strcmp(name, "--send") == 0 && message_count < MESSAGES_MAX)
            messages[message_count++] = value;
        else
            fail(name);
    }

    struct sockaddr_in server = {.sin_family = AF_INET, .sin_port = htons((unsigned short)atoi(arguments[2]))};
    if (inet_pton(AF_INET, arguments[1], &server.sin_addr) != 1)
        fail("address");
    int udp = socket(AF_INET, SOCK_DGRAM, 0);
    if (udp < 0 || connect(udp, (struct sockaddr *)&server, sizeof server) != 0)
        fail("socket");

    wolfSSL_Init();
    WOLFSSL_CTX *context = wolfSSL_CTX_new(wolfDTLSv1_2_client_method());
    if (context == NULL)
        fail("context");
    wolfSSL_CTX_set_verify(context, trusted ? WOLFSSL_VERIFY_PEER : WOLFSSL_VERIFY_NONE, NULL);
    if (trusted && wolfSSL_CTX_load_verify_locations(context, trusted, NULL) != WOLFSSL_SUCCESS)
        fail("--ca");
    if (psk_identity && psk)
        wolfSSL_CTX_set_psk_client_callback(context, pre_shared_key);
    if (suite && wolfSSL_CTX_set_cipher_list(context, suite) != WOLFSSL_SUCCESS)
        fail("--suite");
    if (certificate && wolfSSL_CTX_use_certificate_file(context, certificate, WOLFSSL_FILETYPE_PEM) != WOLFSSL_SUCCESS)
        fail("--cert");
    if (key && wolfSSL_CTX_use_PrivateKey_file(context, key, WOLFSSL_FILETYPE_PEM) != WOLFSSL_SUCCESS)
        fail("--key");

    WOLFSSL *ssl = wolfSSL_new(context);
    if (ssl == NULL || wolfSSL_dtls_set_peer(ssl, &server, sizeof server) != WOLFSSL_SUCCESS
        || wolfSSL_set_fd(ssl, udp) != WOLFSSL_SUCCESS)
        fail("session");
    if (mtu != 0) {
#ifdef WOLFSSL_DTLS_MTU
        if (wolfSSL_dtls_set_mtu(ssl, (unsigned short)mtu) != WOLFSSL_SUCCESS)
            fail("--mtu");
#else
        fail("--mtu: this wolfSSL is built without it");
#endif
    }
    if (wolfSSL_connect(ssl) != WOLFSSL_SUCCESS) {
        char text[WOLFSSL_MAX_ERROR_SZ];
        fail(wolfSSL_ERR_error_string((unsigned long)wolfSSL_get_error(ssl, 0), text));
    }
    printf("established %s\n", wolfSSL_get_cipher(ssl));

    for (int at = 0; at < message_count; at++) {
        unsigned char message[MESSAGE_MAX];
        int length = from_hex(messages[at], message, sizeof message), attempt = 0;
        do {
            if (attempt++ == ATTEMPTS)
                fail("no answer");
            if (wolfSSL_write(ssl, message, length) != length)
                fail("write");
        } while (!answered(ssl, udp, message));
    }
    wolfSSL_shutdown(ssl);
    wolfSSL_free(ssl);
    wolfSSL_CTX_free(context);
    close(udp);
    return 0;
}
