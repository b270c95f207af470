package org.tensorflow.lite;

import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.util.HexFormat;
import java.util.Map;

/** Stands for LiteRT's: knows what the model answered to some inputs, and to no other. */
public final class Interpreter implements AutoCloseable {
  private final Path answers = Path.of(System.getProperty("answers"));

  public Interpreter(ByteBuffer model) {
    if (model.remaining() == 0) throw new IllegalArgumentException("an empty model");
  }

  /** As LiteRT's: outputs that are not asked for are left out. */
  public void runForMultipleInputsOutputs(Object[] inputs, Map<Integer, Object> outputs) {
    byte[] input = new byte[((ByteBuffer) inputs[0]).remaining()];
    ((ByteBuffer) inputs[0]).get(input);
    try {
      String name = HexFormat.of().formatHex(MessageDigest.getInstance("SHA-256").digest(input));
      for (Map.Entry<Integer, Object> output : outputs.entrySet()) {
        byte[] answer = Files.readAllBytes(answers.resolve(name + "." + output.getKey()));
        float[] into = ((float[][]) output.getValue())[0];
        if (answer.length != 4 * into.length) throw new IllegalArgumentException("a buffer of another length");
        ByteBuffer.wrap(answer).order(ByteOrder.LITTLE_ENDIAN).asFloatBuffer().get(into);
      }
    } catch (IOException | NoSuchAlgorithmException error) {
      throw new IllegalStateException("no answer is known to such an input", error);
    }
  }

  @Override
  public void close() {}
}
