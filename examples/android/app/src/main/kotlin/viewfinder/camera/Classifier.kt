package viewfinder.camera

import android.content.Context
import org.json.JSONObject
import org.tensorflow.lite.Interpreter
import java.io.Closeable
import java.nio.ByteBuffer
import java.nio.ByteOrder
import java.nio.channels.FileChannel

/** What the model says about a picture: what its first head says, and what further ones do, if it has any. */
class Answer(val first: Said, val further: List<Said>, val milliseconds: Long)

/** The deployed model in LiteRT, fed as `manifest.json` says. One thread at a time. */
class Classifier(context: Context) : Closeable {
    private val heads: List<Head>
    private val isCropped: Boolean
    private val isFloat: Boolean
    private val model: Interpreter
    private val side: Int
    private val bytes: ByteBuffer
    private val input: ByteBuffer
    private val outputs: Map<Int, Array<FloatArray>> // by head.output

    init {
        val manifest = JSONObject(context.assets.open("manifest.json").bufferedReader().use { it.readText() })
        heads = Head.allOf(manifest)
        val given = manifest.getJSONObject("input")
        isCropped = when (val resize = given.getString("resize")) {
            "stretch" -> false
            "crop" -> true
            else -> error("the model wants resize: $resize, which CameraInput does not do; train with stretch or crop")
        }
        isFloat = given.getString("dtype") == "float32"
        side = given.getJSONArray("shape").getInt(1)
        model = Interpreter(
            context.assets.openFd("model.tflite").use { file ->
                file.createInputStream().channel.map(FileChannel.MapMode.READ_ONLY, file.startOffset, file.declaredLength)
            },
        )
        bytes = ByteBuffer.allocateDirect(side * side * 3)
        input = if (isFloat) ByteBuffer.allocateDirect(side * side * 3 * 4).order(ByteOrder.nativeOrder()) else bytes
        outputs = heads.associate { it.output to Array(1) { _ -> FloatArray(it.labels.size) } }
    }

    /** Answers a frame as the camera gives it. */
    fun answer(frame: CameraInput): Answer {
        val begin = System.nanoTime()
        bytes.rewind()
        frame.fill(bytes, side, isCropped)
        if (isFloat) { // the same numbers, 0 to 255
            input.rewind()
            for (place in 0 until side * side * 3) input.putFloat((bytes.get(place).toInt() and 0xff).toFloat())
        }
        input.rewind()
        model.runForMultipleInputsOutputs(arrayOf(input), outputs)
        val said = heads.map { Said(it, outputs.getValue(it.output)[0].copyOf()) }
        return Answer(said.first(), said.drop(1), (System.nanoTime() - begin) / 1_000_000)
    }

    override fun close() = model.close()
}
