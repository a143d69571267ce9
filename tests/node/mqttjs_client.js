// mqtt.js, driven line by line; tests/python/client_lines.py has the lines.

const readline = require('readline')

const mqtt = require('mqtt')

// mqtt.js sends all at once, whatever the broker's Receive Maximum is. This many are on their way
// at a time.
const WINDOW = 20

const NAMES = {
  contentType: 'content_type',
  responseTopic: 'response_topic',
  messageExpiryInterval: 'message_expiry'
}

function tell (number, event, fields) {
  process.stdout.write(JSON.stringify({ on: number, is: event, ...fields }) + '\n')
}

function propertiesOf (given) {
  const properties = {}
  for (const [name, key] of Object.entries(NAMES)) {
    if (given[key] != null) properties[name] = given[key]
  }
  if (given.payload_format != null) properties.payloadFormatIndicator = given.payload_format === 1
  if (given.correlation_data != null) {
    properties.correlationData = Buffer.from(given.correlation_data, 'hex')
  }
  // One entry a name: in which order different names were given is lost here.
  for (const [name, value] of given.user || []) {
    properties.userProperties = properties.userProperties || {}
    const before = properties.userProperties[name]
    properties.userProperties[name] = before === undefined ? value : [before, value].flat()
  }
  return properties
}

function toldProperties (properties) {
  const told = { user: [] }
  if (!properties) return told
  for (const [name, key] of Object.entries(NAMES)) {
    if (properties[name] !== undefined) told[key] = properties[name]
  }
  if (properties.payloadFormatIndicator !== undefined) {
    told.payload_format = properties.payloadFormatIndicator ? 1 : 0
  }
  if (properties.correlationData !== undefined) {
    told.correlation_data = properties.correlationData.toString('hex')
  }
  for (const [name, values] of Object.entries(properties.userProperties || {})) {
    for (const value of [values].flat()) told.user.push([name, value])
  }
  return told
}

class Connection {
  constructor (command) {
    this.number = command.on
    this.is5 = command.level === 5
    this.waiting = []
    this.underway = 0
    this.code = null
    this.client = mqtt.connect(this.options(command))
    this.client.on('connect', (connack) => this.tell('connected', {
      session_present: connack.sessionPresent,
      maximum_packet_size: connack.properties?.maximumPacketSize ?? null
    }))
    this.client.on('message', (topic, payload, packet) => this.tell('message', {
      topic,
      payload: payload.toString('hex'),
      qos: packet.qos,
      retain: packet.retain,
      properties: toldProperties(packet.properties)
    }))
    this.client.on('disconnect', (packet) => { this.code = packet.reasonCode })
    this.client.on('close', () => this.tell('closed', { code: this.code }))
    this.client.on('error', (error) => this.tell('failed', { error: error.message }))
  }

  tell (event, fields) {
    tell(this.number, event, fields)
  }

  options (command) {
    const options = {
      host: '127.0.0.1',
      port: command.port,
      clientId: command.client_id,
      protocolId: command.level === 3 ? 'MQIsdp' : 'MQTT',
      protocolVersion: command.level,
      clean: command.clean,
      reconnectPeriod: 0,
      resubscribe: false
    }
    if (this.is5) {
      options.properties = {}
      if (command.session_expiry != null) {
        options.properties.sessionExpiryInterval = command.session_expiry
      }
      if (command.maximum_packet_size != null) {
        options.properties.maximumPacketSize = command.maximum_packet_size
      }
    }
    if (command.will) options.will = this.will(command.will)
    return options
  }

  will ({ topic, payload, qos, retain, properties, delay }) {
    const will = { topic, payload: Buffer.from(payload, 'hex'), qos, retain }
    if (this.is5) will.properties = propertiesOf(properties)
    if (this.is5 && delay != null) will.properties.willDelayInterval = delay
    return will
  }

  subscribe (command) {
    const options = { qos: command.qos }
    if (this.is5) {
      options.rh = command.retain_handling
      options.rap = command.retain_as_published
    }
    this.client.subscribe(command.filter, options, (error, granted, suback) => {
      const codes = suback ? suback.granted : [error?.code ?? 0x80]
      this.tell('subscribed', { codes })
    })
  }

  publish (command) {
    this.waiting.push(command)
    this.publishWaiting()
  }

  publishWaiting () {
    while (this.waiting.length > 0 && this.underway < WINDOW) {
      const { topic, payload, qos, retain, properties } = this.waiting.shift()
      const options = { qos, retain }
      if (this.is5) options.properties = propertiesOf(properties)
      this.underway += 1
      this.client.publish(topic, Buffer.from(payload, 'hex'), options, (error) => {
        this.underway -= 1
        // Also called with an error when the connection ends before; that has an event of its own.
        if (!error) this.tell('published', { code: 0 })
        else if (error.code >= 0x80) this.tell('published', { code: error.code })
        this.publishWaiting()
      })
    }
  }

  disconnect () {
    this.client.end()
  }

  cut () {
    this.client.stream.destroy()
  }
}

const connections = new Map()
const lines = readline.createInterface({ input: process.stdin })
lines.on('line', (line) => {
  const command = JSON.parse(line)
  try {
    if (command.do === 'connect') connections.set(command.on, new Connection(command))
    else connections.get(command.on)[command.do](command)
  } catch (error) {
    tell(command.on, 'failed', { error: `${command.do}: ${error.message}` })
  }
})
lines.on('close', () => process.exit(0))
