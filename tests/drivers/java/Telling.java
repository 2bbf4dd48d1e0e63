import com.mongodb.ConnectionString;
import com.mongodb.ErrorCategory;
import com.mongodb.MongoClientSettings;
import com.mongodb.MongoException;
import com.mongodb.event.CommandListener;
import com.mongodb.event.CommandStartedEvent;
import java.io.IOException;
import java.io.InputStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.GeneralSecurityException;
import java.security.KeyStore;
import java.security.cert.CertificateFactory;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import javax.net.ssl.SSLContext;
import javax.net.ssl.TrustManagerFactory;
import org.bson.Document;

/** How the shop connects, and how it tells what it did: a line per step, see ../python/compare.py. */
final class Telling implements CommandListener {
    final List<String> numbered = Collections.synchronizedList(new ArrayList<>());
    final List<String> preferences = Collections.synchronizedList(new ArrayList<>());

    @Override
    public void commandStarted(CommandStartedEvent event) {
        if (event.getCommand().containsKey("txnNumber")) {
            numbered.add(event.getCommandName());
        }
        if (event.getCommandName().equals("find")) {
            var none = new org.bson.BsonDocument("mode", new org.bson.BsonString("none"));
            preferences.add(event.getCommand().getDocument("$readPreference", none).getString("mode").getValue());
        }
    }

    /** Ids are unique over all apps of a collection, so each run has a prefix of its own. */
    static String own(Object name) {
        return System.getenv("APP_PREFIX") + "-" + name;
    }

    static void tell(String step, Map<String, Object> outcome) {
        System.out.println(step + "\t" + new Document(new TreeMap<>(outcome)).toJson());
    }

    /** What applications act on in the error of a server; a refusal is expected. */
    static Document refused(Runnable work) {
        try {
            work.run();
        } catch (MongoException error) {
            boolean twice = ErrorCategory.fromErrorCode(error.getCode()) == ErrorCategory.DUPLICATE_KEY;
            // The text of the driver names the server's address.
            String text = error.getMessage().replaceAll("localhost:\\d+|127\\.0\\.0\\.1:\\d+", "<server>");
            return new Document("code", error.getCode()).append("duplicate", twice).append("message", withoutReply(text));
        }
        throw new IllegalStateException("a server that refuses was expected");
    }

    /** Without the whole reply, which has cluster times. */
    private static String withoutReply(String text) {
        return text.replaceAll("The full response is .*", "");
    }

    MongoClientSettings settings() throws GeneralSecurityException, IOException {
        var uri = new ConnectionString(System.getenv("APP_URI"));
        var settings = MongoClientSettings.builder().applyConnectionString(uri).addCommandListener(this);
        if (Boolean.TRUE.equals(uri.getSslEnabled())) {
            SSLContext context = trusting(Path.of(System.getenv("APP_CA")));
            settings.applyToSslSettings(ssl -> ssl.context(context));
        }
        return settings.build();
    }

    /** The driver has no option in the connection string for this. */
    private static SSLContext trusting(Path authority) throws GeneralSecurityException, IOException {
        var store = KeyStore.getInstance(KeyStore.getDefaultType());
        store.load(null, null);
        try (InputStream file = Files.newInputStream(authority)) {
            store.setCertificateEntry("authority", CertificateFactory.getInstance("X.509").generateCertificate(file));
        }
        var trust = TrustManagerFactory.getInstance(TrustManagerFactory.getDefaultAlgorithm());
        trust.init(store);
        var context = SSLContext.getInstance("TLS");
        context.init(null, trust.getTrustManagers(), null);
        return context;
    }
}
