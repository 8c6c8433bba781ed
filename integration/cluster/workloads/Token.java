import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.net.Socket;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.stream.Collectors;

/**
 * A workload on a JVM with its default sockets: its account, an access token, and the kernel's
 * list of connections in which the socket was: tcp6 for one of both families, as is the default.
 */
public class Token {
  public static void main(String[] arguments) throws IOException {
    String account = "/computeMetadata/v1/instance/service-accounts/default/";
    System.out.println(get(account + "email"));
    System.out.println(get(account + "token").replaceAll(".*\"access_token\":\"([^\"]*)\".*", "$1"));
    System.out.println(list);
  }

  private static String list;

  private static String get(String path) throws IOException {
    try (Socket socket = new Socket("metadata.google.internal", 80)) {
      list = list(socket.getLocalPort());
      String request = "GET " + path + " HTTP/1.0\r\nHost: metadata.google.internal\r\nMetadata-Flavor: Google\r\n\r\n";
      socket.getOutputStream().write(request.getBytes(StandardCharsets.US_ASCII));
      BufferedReader lines = new BufferedReader(new InputStreamReader(socket.getInputStream(), StandardCharsets.UTF_8));
      String status = lines.readLine();
      while (!lines.readLine().isEmpty()) {}
      String body = lines.lines().collect(Collectors.joining());
      if (!status.contains(" 200 ")) {
        throw new IOException(path + ": " + status + ": " + body);
      }
      return body;
    }
  }

  /** The list in which the connection from a port is. */
  private static String list(int port) throws IOException {
    for (String list : new String[] {"tcp", "tcp6"}) {
      for (String line : Files.readAllLines(Path.of("/proc/net", list))) {
        if (line.trim().split("\\s+")[1].endsWith(String.format(":%04X", port))) {
          return list;
        }
      }
    }
    return "none";
  }
}
