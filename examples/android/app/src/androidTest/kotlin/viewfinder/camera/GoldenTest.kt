package viewfinder.camera

import androidx.test.ext.junit.runners.AndroidJUnit4
import androidx.test.platform.app.InstrumentationRegistry
import org.json.JSONArray
import org.json.JSONObject
import org.junit.Assert.assertEquals
import org.junit.Assert.assertTrue
import org.junit.Test
import org.junit.runner.RunWith
import java.nio.ByteBuffer
import kotlin.math.max

/** The app feeds the model rightly: camera frames with known answers get these answers. */
@RunWith(AndroidJUnit4::class)
class GoldenTest {
    private val instrumentation = InstrumentationRegistry.getInstrumentation()
    private val golden = instrumentation.context.assets
    private val told = JSONObject(golden.open("golden/golden.json").bufferedReader().use { it.readText() })

    @Test
    fun cameraFramesGetTheAnswersThatThePipelineGave() {
        val frames = told.getJSONObject("camera").getJSONArray("pictures")
        assertTrue("golden.json has no frames of a camera", frames.length() > 0)
        Classifier(instrumentation.targetContext).use { classifier ->
            for (number in 0 until frames.length()) {
                val entry = frames.getJSONObject(number)
                val file = entry.getString("file")
                val found = classifier.answer(frame(entry))
                compare(file, entry, found.first)
                for (said in found.further) {
                    compare("$file ${said.head.name}", entry.getJSONObject("heads").getJSONObject(said.head.name), said)
                }
            }
        }
    }

    /** I420: luma, then U, then V, each row behind the other. */
    private fun frame(entry: JSONObject): CameraInput {
        val width = entry.getInt("width")
        val height = entry.getInt("height")
        val content = golden.open("golden/" + entry.getString("file")).use { it.readBytes() }
        val luma = width * height
        val colour = luma / 4
        assertEquals(luma + 2 * colour, content.size)
        val planes = listOf(0 to luma, luma to colour, luma + colour to colour).map { (begin, length) ->
            ByteBuffer.wrap(content, begin, length).slice()
        }
        return CameraInput(planes[0], width, planes[1], planes[2], width / 2, 1, width, height, 0)
    }

    private fun compare(what: String, entry: JSONObject, said: Said) {
        assertEquals(what, named(entry), said.names)
        val expected = entry.getJSONObject("probabilities")
        val floor = told.getDouble("floor")
        val limit = told.getDouble("max_factor")
        for ((label, probability) in said.head.labels.zip(said.probabilities.toList())) {
            val factor = max(probability.toDouble(), floor) / max(expected.getDouble(label), floor)
            assertTrue("$what: $label is off by a factor of $factor", factor in 1 / limit..limit)
        }
    }

    /** The first head's answer is a label or null, that of a further one a list. */
    private fun named(entry: JSONObject): List<String> = when (val answer = entry.get("answer")) {
        JSONObject.NULL -> emptyList()
        is JSONArray -> List(answer.length()) { answer.getString(it) }
        else -> listOf(answer.toString())
    }
}
