"""A backbone with the classifier that it was trained with: what it knows before anybody has filmed anything."""

from pipeline.backbones.build import build_backbone
from pipeline.backbones.checked import convert_checked
from pipeline.backbones.quiet_tensorflow import keras
from pipeline.config.backbone import BackboneConfig


def imagenet_classifier(config: BackboneConfig) -> bytes:
    """Build a backbone with its classifier and convert it to LiteRT.

    Args:
        config: A choice of conf/backbone/ of the family efficientnet_lite.

    Returns:
        A .tflite file from uint8 [1, input_pixels, input_pixels, 3] to logits, float32 [1, 1000], of ImageNet's classes
        in the order of ILSVRC 2012.

    Raises:
        PipelineError: If it comes without a classifier, its weights are missing, or LiteRT answers differently than
            Keras.
    """
    model = build_backbone(config, classifier=True)
    last = model.layers[-1]  # with a softmax, which would be quantized
    logits = keras.layers.Dense(last.units, name="logits")
    (image,) = model.inputs
    classifier = keras.Model(image, logits(model.get_layer("features").output))
    logits.set_weights(last.get_weights())
    return convert_checked(classifier, config)[0]
