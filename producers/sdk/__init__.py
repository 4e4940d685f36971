"""For bots: their documents' own interfaces, on the record. Each writes through a Recorder.

``turtle.EventLogger`` · ``catalyst.EventEmitter`` · ``trend.EventBus`` · ``contexts`` builds Turtle's contexts ·
``chains`` carries correlation and causation · ``throttle`` leaves out small price moves and counts them.
"""
