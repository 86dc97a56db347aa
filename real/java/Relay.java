import java.time.Duration;
import java.util.List;
import java.util.Map;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/** Relay BOOTSTRAP SOURCE TARGET COUNT SECONDS: sends COUNT messages of SOURCE on to TARGET, or exits with 1. */
public class Relay {
  public static void main(String[] arguments) throws Exception {
    var bootstrap = arguments[0];
    var source = arguments[1];
    var target = arguments[2];
    var count = Integer.parseInt(arguments[3]);
    var deadline = System.nanoTime() + Duration.ofSeconds(Long.parseLong(arguments[4])).toNanos();
    var relayed = 0;

    Map<String, Object> reading =
        Map.of(
            "bootstrap.servers", bootstrap,
            "group.id", "relay-" + source + "-" + ProcessHandle.current().pid(),
            "auto.offset.reset", "earliest",
            "metadata.max.age.ms", "1000");
    Map<String, Object> writing = Map.of("bootstrap.servers", bootstrap);
    var bytesOut = new ByteArraySerializer();
    var bytesIn = new ByteArrayDeserializer();
    try (var consumer = new KafkaConsumer<>(reading, bytesIn, bytesIn);
        var producer = new KafkaProducer<>(writing, bytesOut, bytesOut)) {
      consumer.subscribe(List.of(source));
      while (relayed < count && System.nanoTime() < deadline) {
        // No break: the agent ends a message's process span when the loop asks for the next message.
        for (var message : consumer.poll(Duration.ofMillis(200))) {
          producer.send(new ProducerRecord<>(target, message.key(), message.value())).get();
          relayed++;
        }
      }
    }
    System.out.println("relayed " + relayed);
    System.exit(relayed < count ? 1 : 0);
  }
}
