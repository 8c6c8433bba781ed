import com.google.auth.oauth2.AccessToken;
import com.google.auth.oauth2.ComputeEngineCredentials;
import com.google.auth.oauth2.GoogleCredentials;
import com.google.auth.oauth2.IdTokenCredentials;
import com.google.auth.oauth2.IdTokenProvider;
import com.google.cloud.MetadataConfig;
import com.google.cloud.storage.BlobId;
import com.google.cloud.storage.BlobInfo;
import com.google.cloud.storage.Storage;
import com.google.cloud.storage.StorageOptions;
import com.google.gson.Gson;
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.util.Map;

/**
 * A program with Google's Java libraries, as a pod runs one. It does what the lines of its input
 * say, and answers each with a line of JSON.
 */
public class Main {
  private static Storage storage; // for the life of the program, as is usual

  public static void main(String[] arguments) throws Exception {
    BufferedReader lines = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
    Gson json = new Gson();
    for (String line = lines.readLine(); line != null; line = lines.readLine()) {
      try {
        System.out.println(json.toJson(Map.of("value", command(line.split(" ")))));
      } catch (Exception error) { // whatever it is, it is the answer
        error.printStackTrace();
        System.out.println(json.toJson(Map.of("error", error.toString())));
      }
    }
  }

  private static String command(String[] words) throws Exception {
    switch (words[0]) {
      case "project":
        return MetadataConfig.getProjectId();
      case "zone":
        return MetadataConfig.getZone();
      case "email":
        return ((ComputeEngineCredentials) credentials()).getAccount();
      case "access":
        AccessToken token = credentials().refreshAccessToken();
        return token.getTokenValue();
      case "id":
        IdTokenCredentials id =
            IdTokenCredentials.newBuilder()
                .setIdTokenProvider((IdTokenProvider) credentials())
                .setTargetAudience(words[1])
                .build();
        return id.refreshAccessToken().getTokenValue();
      case "upload":
        return upload(words[1], words[2]);
      default:
        throw new IllegalArgumentException(words[0]);
    }
  }

  private static GoogleCredentials credentials() throws Exception {
    return GoogleCredentials.getApplicationDefault()
        .createScoped("https://www.googleapis.com/auth/cloud-platform");
  }

  private static String upload(String bucket, String name) {
    if (storage == null) {
      storage = StorageOptions.getDefaultInstance().getService();
    }
    byte[] content = ("content of " + name).getBytes(StandardCharsets.UTF_8);
    storage.create(BlobInfo.newBuilder(bucket, name).build(), content);
    return new String(storage.readAllBytes(BlobId.of(bucket, name)), StandardCharsets.UTF_8);
  }
}
