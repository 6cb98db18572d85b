package io.tidegate.bench;

import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.nio.file.Path;
import java.security.PrivateKey;
import java.security.cert.X509Certificate;
import java.util.concurrent.TimeUnit;

import org.eclipse.californium.core.CoapResource;
import org.eclipse.californium.core.CoapServer;
import org.eclipse.californium.core.coap.CoAP.ResponseCode;
import org.eclipse.californium.core.config.CoapConfig;
import org.eclipse.californium.core.network.CoapEndpoint;
import org.eclipse.californium.core.server.resources.CoapExchange;
import org.eclipse.californium.elements.config.CertificateAuthenticationMode;
import org.eclipse.californium.elements.config.Configuration;
import org.eclipse.californium.elements.util.SslContextUtil;
import org.eclipse.californium.scandium.DTLSConnector;
import org.eclipse.californium.scandium.config.DtlsConfig;
import org.eclipse.californium.scandium.config.DtlsConfig.DtlsRole;
import org.eclipse.californium.scandium.config.DtlsConnectorConfig;
import org.eclipse.californium.scandium.dtls.CertificateType;
import org.eclipse.californium.scandium.dtls.x509.SingleCertificateProvider;
import org.eclipse.californium.scandium.dtls.x509.StaticNewAdvancedCertificateVerifier;

/**
 * A CoAPS server with ThingsBoard's settings of Californium and Scandium, and nothing of ThingsBoard:
 * it answers POST /telemetry with 2.01 and forgets the reading.
 *
 * <p>Arguments: port, certificate chain (PEM), private key (PEM).
 */
public final class Server {
    private Server() {
    }

    public static void main(String[] arguments) throws Exception {
        int port = Integer.parseInt(arguments[0]);
        DtlsConfig.register();
        CoapConfig.register();
        Configuration configuration = Configuration.createStandardWithoutFile();
        configuration.set(CoapConfig.MAX_RETRANSMIT, 4);
        configuration.set(CoapConfig.MAX_MESSAGE_SIZE, 1024);
        configuration.set(CoapConfig.PREFERRED_BLOCK_SIZE, 1024);
        configuration.set(CoapConfig.MAX_RESOURCE_BODY_SIZE, 256 * 1024 * 1024);
        configuration.set(CoapConfig.BLOCKWISE_STATUS_LIFETIME, 300, TimeUnit.SECONDS);
        configuration.set(CoapConfig.BLOCKWISE_STRICT_BLOCK2_OPTION, true);
        configuration.set(CoapConfig.BLOCKWISE_ENTITY_TOO_LARGE_AUTO_FAILOVER, true);
        configuration.set(CoapConfig.RESPONSE_MATCHING, CoapConfig.MatcherMode.RELAXED);
        configuration.set(DtlsConfig.DTLS_ROLE, DtlsRole.SERVER_ONLY);
        configuration.set(DtlsConfig.DTLS_RETRANSMISSION_TIMEOUT, 9000, TimeUnit.MILLISECONDS);
        configuration.set(DtlsConfig.DTLS_CONNECTION_ID_LENGTH, 8);
        configuration.set(DtlsConfig.DTLS_MAX_TRANSMISSION_UNIT, 1024);
        configuration.set(DtlsConfig.DTLS_CLIENT_AUTHENTICATION_MODE, CertificateAuthenticationMode.WANTED);

        X509Certificate[] chain = SslContextUtil.loadCertificateChain(file(arguments[1]), null, null);
        PrivateKey key = SslContextUtil.loadPrivateKey(file(arguments[2]), null, null, null);
        DtlsConnectorConfig connector = DtlsConnectorConfig.builder(configuration)
                .setAddress(new InetSocketAddress(InetAddress.getByName("127.0.0.1"), port))
                .setCertificateIdentityProvider(new SingleCertificateProvider(key, chain, CertificateType.X_509))
                .setAdvancedCertificateVerifier(StaticNewAdvancedCertificateVerifier.builder()
                        .setTrustAllCertificates().build())
                .build();
        CoapServer server = new CoapServer(configuration);
        server.addEndpoint(CoapEndpoint.builder()
                .setConfiguration(configuration)
                .setConnector(new DTLSConnector(connector))
                .build());
        server.add(new CoapResource("telemetry") {
            @Override
            public void handlePOST(CoapExchange exchange) {
                exchange.respond(ResponseCode.CREATED);
            }
        });
        server.start();
        System.out.println("ready");
    }

    /** A path as a URI, so that it is not looked for on the class path. */
    private static String file(String path) {
        return Path.of(path).toUri().toString();
    }
}
